"""Write options/*.yml from three templates and the table below, and options/schema.json from the known options.

`--check` only compares and fails on drift.

Examples:
  python scripts/make_options.py
  python scripts/make_options.py --check
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template

from han_arch.training import json_schema

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / "templates"

BENCHMARKS = ("Set5", "Set14", "B100", "Urban100", "Manga109")

HAN = """\
  type: HAN
  num_in_ch: 3
  num_out_ch: 3
  num_feat: {num_feat}
  num_group: {num_group}
  num_block: {num_block}
  squeeze_factor: {squeeze_factor}
  upscale: *scale
  res_scale: 1
  img_range: 255.
  rgb_mean: [0.4488, 0.4371, 0.4040]
  layer_attention: LAM  # ~ leaves it out; or your own registered component
  spatial_attention: CSAM
  lam_form: released
  fusion: conv
  num_csam: 1"""
HAN_PAPER = HAN.format(num_feat=64, num_group=10, num_block=20, squeeze_factor=16)
HAN_DEMO = HAN.format(num_feat=24, num_group=3, num_block=2, squeeze_factor=4)
RCAN = """\
  type: RCAN
  num_in_ch: 3
  num_out_ch: 3
  num_feat: {num_feat}
  num_group: {num_group}
  num_block: {num_block}
  squeeze_factor: {squeeze_factor}
  upscale: *scale
  res_scale: 1
  img_range: 255.
  rgb_mean: [0.4488, 0.4371, 0.4040]"""
RCAN_PAPER = RCAN.format(num_feat=64, num_group=10, num_block=20, squeeze_factor=16)
EDSR = """\
  type: EDSR
  num_in_ch: 3
  num_out_ch: 3
  num_feat: {num_feat}
  num_block: {num_block}
  upscale: *scale
  res_scale: {res_scale}
  img_range: 255.
  rgb_mean: [0.4488, 0.4371, 0.4040]"""
EDSR_PAPER = EDSR.format(num_feat=256, num_block=32, res_scale=0.1)
# Of HAN_DEMO's size, 0.16 M parameters.
RCAN_DEMO = RCAN.format(num_feat=24, num_group=3, num_block=3, squeeze_factor=4)
EDSR_DEMO = EDSR.format(num_feat=32, num_block=4, res_scale=1)

HALVED_AT_200K = """\
    type: MultiStepLR
    milestones: [200000]
    gamma: 0.5"""
COSINE_OVER_1200 = """\
    type: CosineAnnealingRestartLR
    periods: [1200]
    restart_weights: [1]
    eta_min: !!float 1e-6"""


@dataclass(frozen=True)
class Training:
    """One train_*.yml; the defaults are the HAN paper's recipe on DIV2K."""

    file: str
    title: str
    name: str
    scale: int
    degradation: str = "BI"
    network: str = HAN_PAPER
    notes: str = ""
    train_set: str = "DIV2K"
    val_set: str = "Set5"
    lq_size: int = 48
    batch_size: int = 16
    num_worker: int = 6
    enlarge_ratio: int = 10
    ema_decay: float = 0
    lr: str = "1e-4"
    scheduler: str = HALVED_AT_200K
    total_iter: int = 400000
    val_freq: int = 5000
    print_freq: int = 100
    save_freq: int = 5000

    def render(self) -> str:
        """The file's text."""
        degradation = f"{self.degradation}x{self.scale}"
        values = {
            **self.__dict__,
            "notes": "".join(f"\n# {line}" for line in self.notes.splitlines()),
            "gt_size": self.lq_size * self.scale,
            "train_gt": f"datasets/{self.train_set}/GT_sub_x{self.scale}.lmdb",
            "train_lq": f"datasets/{self.train_set}/LR_sub_{degradation}.lmdb",
            "val_gt": f"datasets/{self.val_set}/GT_x{self.scale}",
            "val_lq": f"datasets/{self.val_set}/LR_{degradation}",
        }
        return _template("train.yml").substitute(values)


@dataclass(frozen=True)
class Test:
    """One test_*.yml."""

    file: str
    title: str
    name: str
    scale: int
    checkpoint: str
    degradation: str = "BI"
    network: str = HAN_PAPER
    sets: tuple[str, ...] = BENCHMARKS
    param_key: str = "params"

    def render(self) -> str:
        """The file's text."""
        blocks = []
        for number, name in enumerate(self.sets, start=1):
            blocks.append(
                f"  test_{number}:\n"
                f"    name: {name}\n"
                f"    type: PairedImageDataset\n"
                f"    dataroot_gt: datasets/{name}/GT_x{self.scale}\n"
                f"    dataroot_lq: datasets/{name}/LR_{self.degradation}x{self.scale}\n"
                f"    io_backend:\n"
                f"      type: disk"
            )
        return _template("test.yml").substitute({**self.__dict__, "test_sets": "\n".join(blocks)})


@dataclass(frozen=True)
class Leaderboard:
    """One leaderboard_*.yml; `models` are (name on the board, experiment)."""

    file: str
    title: str
    name: str
    scale: int
    models: tuple[tuple[str, str], ...]
    degradation: str = "BI"
    sets: tuple[str, ...] = BENCHMARKS
    variants: str = "full, chop, self_ensemble"
    notes: str = ""

    def render(self) -> str:
        """The file's text."""
        sets = [f"  {name}:\n    dataroot_gt: datasets/{name}/HR" for name in self.sets]
        models = [f"  {name}:\n    experiment: experiments/{experiment}" for name, experiment in self.models]
        values = {
            **self.__dict__,
            "notes": "".join(f"\n# {line}" for line in self.notes.splitlines()),
            "sets": "\n".join(sets),
            "models": "\n".join(models),
            "baseline": self.models[0][0],
        }
        return _template("leaderboard.yml").substitute(values)


def _template(name: str) -> Template:
    return Template((TEMPLATES / name).read_text("utf-8"))


def _paper_files(
    scale: int, degradation: str = "BI", peers: tuple[str, ...] = ()
) -> list[Training | Test | Leaderboard]:
    tag = f"x{scale}" if degradation == "BI" else f"{degradation}x{scale}"
    what = f"HAN x{scale} ({degradation})"
    return [
        Training(
            file=f"train_HAN_{tag}.yml",
            title=f"{what} on DIV2K: the paper's recipe, from scratch",
            name=f"HAN_{tag}_DIV2K",
            scale=scale,
            degradation=degradation,
        ),
        Test(
            file=f"test_HAN_{tag}.yml",
            title=f"{what} on the five benchmark sets, the papers' protocol (Y, border = scale)",
            name=f"HAN_{tag}_benchmarks",
            scale=scale,
            degradation=degradation,
            checkpoint=f"experiments/HAN_{tag}_DIV2K/models/net_g_latest.pth",
        ),
        Leaderboard(
            file=f"leaderboard_{tag}.yml",
            title=f"x{scale} ({degradation}): the networks trained by this folder's files, measured by one protocol",
            name=f"leaderboard_{tag}",
            scale=scale,
            degradation=degradation,
            models=tuple((name, f"{name}_{tag}_DIV2K") for name in (*peers, "HAN")),
        ),
    ]


DEMO = Training(
    file="demo_HAN_x4.yml",
    title="A small HAN x4 on a few photos, minutes on a CPU: what `make demo` trains",
    name="demo_HAN_x4",
    scale=4,
    network=HAN_DEMO,
    train_set="demo_train",
    val_set="demo_test",
    lq_size=32,
    batch_size=8,
    num_worker=0,  # with 2 cores a worker takes more from the training threads than it gives
    enlarge_ratio=200,
    ema_decay=0.99,
    lr="1e-3",
    scheduler=COSINE_OVER_1200,
    total_iter=1200,
    val_freq=400,
    print_freq=50,
    save_freq=400,
)

EXPERIMENTS: list[Training | Test | Leaderboard] = [
    *_paper_files(2),
    *_paper_files(3),
    *_paper_files(4, peers=("RCAN", "EDSR")),
    *_paper_files(8),
    *_paper_files(3, "BD"),
    Training(
        file="train_RCAN_x4.yml",
        title="RCAN x4 (BI) on DIV2K at the paper's size, by HAN's recipe, for comparison",
        name="RCAN_x4_DIV2K",
        scale=4,
        network=RCAN_PAPER,
    ),
    Training(
        file="train_EDSR_x4.yml",
        title="EDSR x4 (BI) on DIV2K at the paper's size, by HAN's recipe, for comparison",
        name="EDSR_x4_DIV2K",
        scale=4,
        network=EDSR_PAPER,
    ),
    DEMO,
    replace(
        DEMO,
        file="demo_RCAN_x4.yml",
        title="An RCAN of the demo's size by the demo's recipe, for comparison",
        name="demo_RCAN_x4",
        network=RCAN_DEMO,
    ),
    replace(
        DEMO,
        file="demo_EDSR_x4.yml",
        title="An EDSR of the demo's size by the demo's recipe, for comparison",
        name="demo_EDSR_x4",
        network=EDSR_DEMO,
    ),
    Test(
        file="demo_test_HAN_x4.yml",
        title="The demo's network on photos that it was not trained on",
        name="demo_HAN_x4",
        scale=4,
        network=HAN_DEMO,
        sets=("demo_test",),
        checkpoint="experiments/demo_HAN_x4/models/net_g_latest.pth",
        param_key="params_ema",
    ),
    Leaderboard(
        file="leaderboard_demo_x4.yml",
        title="x4 (BI): the demo's HAN and networks of its size by the demo's recipe",
        name="leaderboard_demo_x4",
        scale=4,
        models=tuple((f"{name}-demo", f"demo_{name}_x4") for name in ("RCAN", "EDSR", "HAN")),
        sets=("Set5", "Set14", "B100"),
        variants="full, self_ensemble",
        notes="Small networks after minutes on six photos: nothing of this speaks of the papers' networks.",
    ),
]


def main() -> int:
    """Write the files, or compare them; 1 on drift."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a file differs")
    parser.add_argument("--folder", type=Path, default=ROOT / "options", help="default: options/")
    args = parser.parse_args()

    wanted = {experiment.file: experiment.render() for experiment in EXPERIMENTS}
    wanted["schema.json"] = json_schema.as_text()
    present = {path.name: path.read_text("utf-8") for kind in ("yml", "json") for path in args.folder.glob(f"*.{kind}")}
    differing = sorted(name for name, text in wanted.items() if present.get(name) != text)
    strangers = sorted(present.keys() - wanted.keys())
    if args.check:
        for name in differing:
            print(f"{name}: missing or changed by hand; change the table and run scripts/make_options.py")
        for name in strangers:
            print(f"{name}: not in the table of scripts/make_options.py")
        return 1 if differing or strangers else 0
    for name in differing:
        (args.folder / name).write_text(wanted[name], "utf-8")
        print(f"wrote {name}")
    for name in strangers:
        print(f"left alone, not in the table: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
