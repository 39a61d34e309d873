"""Write options/*.yml from three templates and the table below, and options/schema.json from the table of options.

`--check` compares the files and fails if one differs.

Examples:
  python scripts/make_options.py
  python scripts/make_options.py --check
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from option_kinds import COSINE, FAST_ON_CPU, Leaderboard, OptionFile, Test, Training

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
            title=f"{what} on the five benchmark sets, the papers' protocol (Y, border = scale)",
            name=f"HAN_{tag}_benchmarks",
            scale=scale,
            degradation=degradation,
            checkpoint=f"experiments/HAN_{tag}_DIV2K/models/net_g_latest.pth",
        ),
        Leaderboard(
            file=f"leaderboard_{tag}",
            title=f"x{scale} ({degradation}): the networks trained by this folder's files, measured by one protocol",
            scale=scale,
            degradation=degradation,
            models=tuple((name, f"{name}_{tag}_DIV2K") for name in (*peers, "HAN")),
        ),
    ]


DEMO = Training(
    file="demo_HAN_x4",
    title="A small HAN x4 on a few photos, minutes on a CPU: the training of `make demo`",
    scale=4,
    network="HAN-demo",
    train_set="demo_train",
    val_set="demo_test",
    lq_size=32,
    batch_size=8,
    num_worker=0,  # on 2 cores a data worker slows the training down
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
    title="HAN-S x4 (BI), 0.5 M parameters, on 399 photos of BSDS500: the first stage of the zoo's han-s-x4",
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
    title="HAN-S x4 (BI) on BSDS500, 6,000 more iterations after train_HAN-S_x4.yml: the zoo's han-s-x4",
    name="HAN-S_x4_stage2_BSDS400",
    lr="2e-4",
    total_iter=6000,
    val_freq=1000,
    keep_best="psnr",  # the best value comes early and later ones equal it
    seed=1,  # other crops than in the first stage
    pretrained=HAN_S_X4_WEIGHTS,
    pretrained_key="params_ema",
)


def _small_files(scale: int) -> Training:
    return replace(
        HAN_S_X4,
        file=f"train_HAN-S_x{scale}",
        title=f"HAN-S x{scale} (BI) on BSDS500, from the weights of train_HAN-S_x4.yml: the zoo's han-s-x{scale}",
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
        name="",  # the file's name
        network=network,
        lq_size=24,
        batch_size=8,  # small patches: eighteen trainings in an hour on two processor cores
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
            title=f"{model} x4 (BI) on DIV2K at the paper's size, by HAN's recipe, for comparison",
            name=f"{model}_x4_DIV2K",
            scale=4,
            network=model,
        ),
        replace(
            DEMO,
            file=f"demo_{model}_x4",
            title=f"An {model} of the demo's size by the demo's recipe, for comparison",
            network=f"{model}-demo",
        ),
    ]


def _zoo_board(scale: int) -> Leaderboard:
    return Leaderboard(
        file=f"leaderboard_zoo_x{scale}",
        title=f"x{scale} (BI): the zoo's small HAN, shipped with the package, beside the published numbers",
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
    _ablation("RCAN", "RCAN, the backbone alone", "RCAN-backbone"),
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
        title="x4 (BI): the demo's HAN and networks of its size by the demo's recipe",
        scale=4,
        models=tuple((f"{name}-demo", f"demo_{name}_x4") for name in ("RCAN", "EDSR", "HAN")),
        sets=("Set5", "Set14", "B100"),
        variants="full, self_ensemble",
        notes="Small networks, minutes of training on six photos: not comparable with the papers' networks.",
    ),
]


def main() -> int:
    """Write the files, or compare them; return 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    parser.add_argument("--folder", type=Path, default=ROOT / "options", help="default: options/")
    args = parser.parse_args()

    wanted = {f"{experiment.file}.yml": experiment.render() for experiment in EXPERIMENTS}
    wanted["schema.json"] = schema.as_text()
    present = {path.name: path.read_text("utf-8") for kind in ("yml", "json") for path in args.folder.glob(f"*.{kind}")}
    differing = sorted(name for name, text in wanted.items() if present.get(name) != text)
    strangers = sorted(present.keys() - wanted.keys())
    if args.check:
        for name in differing:
            print(f"{name}: missing or edited; change the table and run scripts/make_options.py")
        for name in strangers:
            print(f"{name}: not in the table of scripts/make_options.py")
        return 1 if differing or strangers else 0
    for name in differing:
        (args.folder / name).write_text(wanted[name], "utf-8")
        print(f"wrote {name}")
    for name in strangers:
        print(f"not in the table, left unchanged: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
