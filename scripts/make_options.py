"""Write the option files options/*.yml and the JSON schema options/schema.json.

The script makes the option files from three templates and the table EXPERIMENTS. `--check` writes nothing and fails if
a file is missing or out of date.

Examples:
  python scripts/make_options.py
  python scripts/make_options.py --check
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from option_kinds import COSINE, FAST_ON_CPU, Leaderboard, OptionFile, Test, Training

from han_arch import program
from han_arch.opt import schema

ROOT = Path(__file__).resolve().parent.parent


def _paper_files(scale: int, degradation: str = "BI", peers: tuple[str, ...] = ()) -> list[OptionFile]:
    tag = f"x{scale}" if degradation == "BI" else f"{degradation}x{scale}"
    what = f"HAN x{scale} ({degradation})"
    return [
        Training(
            file=f"train_HAN_{tag}",
            title=f"{what} on DIV2K: the paper's recipe, from scratch",
            name=f"HAN_{tag}_DIV2K",
            scale=scale,
            degradation=degradation,
        ),
        Test(
            file=f"test_HAN_{tag}",
            title=f"{what} on the five benchmark sets, by the papers' protocol (Y channel, border = scale)",
            name=f"HAN_{tag}_benchmarks",
            scale=scale,
            degradation=degradation,
            checkpoint=f"experiments/HAN_{tag}_DIV2K/models/net_g_latest.pth",
        ),
        Leaderboard(
            file=f"leaderboard_{tag}",
            title=f"x{scale} ({degradation}): networks trained with these option files, measured by one protocol",
            scale=scale,
            degradation=degradation,
            models=tuple((name, f"{name}_{tag}_DIV2K") for name in (*peers, "HAN")),
        ),
    ]


DEMO = Training(
    file="demo_HAN_x4",
    title="The training of `make demo`: a small HAN x4 on a few photos, in minutes on a CPU",
    scale=4,
    network="HAN-demo",
    train_set="demo_train",
    val_set="demo_test",
    lq_size=32,
    batch_size=8,
    num_worker=0,  # on 2 cores, a data worker makes the training slower
    ema_decay=0.99,
    lr="1e-3",
    schedule=COSINE,
    total_iter=1200,
    val_freq=400,
    print_freq=50,
    save_freq=400,
)

HAN_S_X4 = Training(
    file="train_HAN-S_x4",
    title="HAN-S x4 (BI), 0.5 M parameters, on 399 photos of BSDS500: first training stage of the zoo network han-s-x4",
    name="HAN-S_x4_BSDS400",
    scale=4,
    network="HAN-S",
    train_set="BSDS400",
    lq_size=40,
    num_worker=1,
    ema_decay=0.999,
    lr="5e-4",
    schedule=COSINE,
    total_iter=20000,
    val_freq=2000,
    save_freq=1000,
    step=FAST_ON_CPU,
)
HAN_S_X4_WEIGHTS = f"experiments/{HAN_S_X4.name}/models/net_g_latest.pth"
HAN_S_X4_STAGE_2 = replace(
    HAN_S_X4,
    file="train_HAN-S_x4_stage2",
    title="HAN-S x4 (BI) on BSDS500, 6,000 iterations after train_HAN-S_x4.yml: last stage of the zoo network han-s-x4",
    name="HAN-S_x4_stage2_BSDS400",
    lr="2e-4",
    total_iter=6000,
    val_freq=1000,
    keep_best="psnr",  # validation reaches its best value early
    seed=1,  # another seed than in the first stage, for different crops
    pretrained=HAN_S_X4_WEIGHTS,
    pretrained_key="params_ema",
)


def _small_files(scale: int) -> Training:
    return replace(
        HAN_S_X4,
        file=f"train_HAN-S_x{scale}",
        title=f"HAN-S x{scale} (BI) on BSDS500, from the weights of train_HAN-S_x4.yml: the zoo network han-s-x{scale}",
        name=f"HAN-S_x{scale}_BSDS400",
        scale=scale,
        total_iter=6000,
        val_freq=1000,
        pretrained=HAN_S_X4_WEIGHTS,
        pretrained_key="params_ema",
        strict="false",
    )


def _ablation(model: str, what: str, network: str) -> Training:
    return replace(
        HAN_S_X4,
        file=f"ablation_{model}_x4",
        title=f"Ablation: {what}, about 0.15 M parameters; scripts/ablation.py trains it with several seeds",
        name="",  # the run has the name of its file
        network=network,
        lq_size=24,
        batch_size=8,  # small batches of small patches: eighteen trainings take an hour on two processor cores
        num_worker=0,
        ema_decay=0.99,
        lr="1e-3",
        total_iter=3000,
        val_freq=1000,
        save_freq=500,
    )


def _peer_files(model: str) -> list[OptionFile]:
    return [
        Training(
            file=f"train_{model}_x4",
            title=f"{model} x4 (BI) on DIV2K at the paper's size, with HAN's training recipe, for comparison",
            name=f"{model}_x4_DIV2K",
            scale=4,
            network=model,
        ),
        replace(
            DEMO,
            file=f"demo_{model}_x4",
            title=f"{model} with the size and the training recipe of the demo's HAN, for comparison",
            network=f"{model}-demo",
        ),
    ]


def _zoo_board(scale: int) -> Leaderboard:
    return Leaderboard(
        file=f"leaderboard_zoo_x{scale}",
        title=f"x{scale} (BI): the zoo's small HAN, shipped with the package, compared with published numbers",
        scale=scale,
        models=((f"HAN-S x{scale}", f"han-s-x{scale}"),),
        source="zoo: ",
        sets=("Set5", "Set14", "B100"),
        variants="full, self_ensemble",
    )


EXPERIMENTS: list[OptionFile] = [
    *_paper_files(2),
    *_paper_files(3),
    *_paper_files(4, peers=("RCAN", "EDSR")),
    *_paper_files(8),
    *_paper_files(3, "BD"),
    *_peer_files("RCAN"),
    *_peer_files("EDSR"),
    _small_files(2),
    _small_files(3),
    HAN_S_X4,
    HAN_S_X4_STAGE_2,
    *map(_zoo_board, (2, 3, 4)),
    _ablation("RCAN", "RCAN, the backbone of HAN alone", "RCAN-backbone"),
    _ablation("HAN", "HAN", "HAN-demo"),
    _ablation("HAN-no-LAM", "HAN without layer attention", "HAN-no-LAM"),
    _ablation("HAN-no-CSAM", "HAN without channel-spatial attention", "HAN-no-CSAM"),
    _ablation("HAN-cosine-LAM", "HAN with the cosine form of LAM", "HAN-cosine-LAM"),
    _ablation("EDSR", "EDSR with HAN's number of parameters", "EDSR-demo"),
    DEMO,
    Test(
        file="demo_test_HAN_x4",
        title="The demo's network on photos outside its training set",
        name="demo_HAN_x4",
        scale=4,
        network="HAN-demo",
        sets=("demo_test",),
        checkpoint="experiments/demo_HAN_x4/models/net_g_latest.pth",
        param_key="params_ema",
    ),
    Leaderboard(
        file="leaderboard_demo_x4",
        title="x4 (BI): the demo's HAN and other networks with its size and training recipe",
        scale=4,
        models=tuple((f"{name}-demo", f"demo_{name}_x4") for name in ("RCAN", "EDSR", "HAN")),
        sets=("Set5", "Set14", "B100"),
        variants="full, self_ensemble",
        notes="Small networks, trained for minutes on six photos: do not compare them with the papers' networks.",
    ),
]


def main() -> int:
    """Write or check the files; with `--check`, return 1 if a file is missing, out of date, or not in the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is missing or out of date")
    folder = "folder of the option files (default: options/)"
    parser.add_argument("--folder", type=Path, default=ROOT / "options", help=folder)
    args = parser.parse_args()

    wanted = {f"{experiment.file}.yml": experiment.render() for experiment in EXPERIMENTS}
    wanted["schema.json"] = schema.as_text()
    present = {path.name: path.read_text("utf-8") for kind in ("yml", "json") for path in args.folder.glob(f"*.{kind}")}
    differing = sorted(name for name, text in wanted.items() if present.get(name) != text)
    strangers = sorted(present.keys() - wanted.keys())
    if args.check:
        for name in differing:
            print(f"{name}: missing or out of date; run scripts/make_options.py, which writes the file")
        for name in strangers:
            print(f"{name}: not in the table of scripts/make_options.py; delete the file or add it to the table")
        return 1 if differing or strangers else 0
    for name in differing:
        (args.folder / name).write_text(wanted[name], "utf-8")
        print(f"wrote {name}")
    for name in strangers:
        print(f"{name}: not in the table of scripts/make_options.py; the file was not changed")
    return 0


if __name__ == "__main__":
    sys.exit(program.run("make_options.py", main))
