"""Three types of option files (training, test, leaderboard), and the values that fill their templates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, ClassVar

from han_arch.data.benchmarks import BENCHMARKS

TEMPLATES = Path(__file__).resolve().parent / "templates"
TEST_SETS = tuple(row.name for row in BENCHMARKS.values() if row.in_papers)

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
HAN = f"""{RCAN.replace("RCAN", "HAN")}
  layer_attention: LAM  # or the name of a registered component; ~ switches it off
  spatial_attention: CSAM
  lam_form: released
  fusion: conv
  num_csam: 1"""
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
HAN_DEMO = HAN.format(num_feat=24, num_group=3, num_block=2, squeeze_factor=4)
NETWORKS = {
    "HAN": HAN.format(num_feat=64, num_group=10, num_block=20, squeeze_factor=16),
    "RCAN": RCAN.format(num_feat=64, num_group=10, num_block=20, squeeze_factor=16),
    "EDSR": EDSR.format(num_feat=256, num_block=32, res_scale=0.1),
    "HAN-S": HAN.format(num_feat=32, num_group=4, num_block=4, squeeze_factor=8),
    # The demo's three networks have the same size, 0.16 M parameters.
    "HAN-demo": HAN_DEMO,
    "RCAN-demo": RCAN.format(num_feat=24, num_group=3, num_block=3, squeeze_factor=4),
    "EDSR-demo": EDSR.format(num_feat=32, num_block=4, res_scale=1),
    # All networks of the ablation except EDSR have the backbone of HAN-demo. EDSR-demo has 158,979 parameters, HAN-demo
    # 159,405.
    "RCAN-backbone": RCAN.format(num_feat=24, num_group=3, num_block=2, squeeze_factor=4),
    "HAN-no-LAM": HAN_DEMO.replace("layer_attention: LAM  # or the name of a registered component; ~ switches it off",
                                   "layer_attention: ~  # switched off; conv_lam is kept"),
    "HAN-no-CSAM": HAN_DEMO.replace("spatial_attention: CSAM",
                                   "spatial_attention: ~  # switched off; conv_fuse is kept"),
    "HAN-cosine-LAM": HAN_DEMO.replace("lam_form: released", "lam_form: cosine"),
}  # fmt: skip

HALVED_AT_200K = """\
    type: MultiStepLR
    milestones: [200000]
    gamma: 0.5"""
COSINE = """\
    type: CosineAnnealingRestartLR
    periods: [{total_iter}]
    restart_weights: [1]
    eta_min: !!float 1e-6"""
# Options of HANModel that change the training step, with their default values.
STEP = {
    "precision": "fp32  # or bf16, fp16",
    "channels_last": "false",
    "compile": "false",
    "accumulate": "1  # number of parts of a batch that run one after another, to save memory",
    "grad_clip": "~  # maximum norm of the gradient, such as 10.",
    "guard": "{factor: 10., action: skip}  # skips a step with more than 10 times the usual loss; or action: rollback",
}
# Options that make a training step fast on a processor with bfloat16 instructions.
FAST_ON_CPU = {"precision": "bf16", "channels_last": "true"}


@dataclass(frozen=True, kw_only=True)
class OptionFile:
    """An option file, made from a template. The fields and the result of `values()` replace the placeholders.

    `file` is the file name without its suffix. `name` is the name of the run. The default of `name` is `file`.
    """

    template: ClassVar[str]

    file: str
    title: str
    scale: int
    name: str = ""
    degradation: str = "BI"

    def values(self) -> dict[str, Any]:
        """Return the values that the template needs in addition to the fields."""
        return {}

    def render(self) -> str:
        """Return the text of the option file."""
        template = Template((TEMPLATES / self.template).read_text("utf-8"))
        return template.substitute(self.__dict__ | {"name": self.name or self.file} | self.values())


@dataclass(frozen=True, kw_only=True)
class Training(OptionFile):
    """Option file for training. The default values are the HAN paper's recipe on DIV2K."""

    template = "train.yml"

    network: str = "HAN"  # a name in NETWORKS
    train_set: str = "DIV2K"
    val_set: str = "Set5"
    lq_size: int = 48
    batch_size: int = 16
    num_worker: int = 6
    ema_decay: float = 0
    lr: str = "1e-4"
    schedule: str = HALVED_AT_200K
    total_iter: int = 400000
    val_freq: int = 5000
    print_freq: int = 100
    save_freq: int = 5000
    keep_best: str = ""
    seed: int = 0
    step: Mapping[str, str] = field(default_factory=dict)
    pretrained: str = "~"
    pretrained_key: str = ""
    strict: str = "true"

    def values(self) -> dict[str, Any]:
        """Return the network, the schedule, the data paths, the patch size and the lines of optional settings."""
        degradation = f"{self.degradation}x{self.scale}"
        step = [f"{key}: {value}" for key, value in self.step.items()]
        step.append("# More options of HANModel (docs/training.md), with their default values:")
        step += [f"# {key}: {value}" for key, value in STEP.items() if key not in self.step]
        best = f"\n  keep_best: {self.keep_best}  # metric that selects the best checkpoint"
        return {
            "network": NETWORKS[self.network],
            "step": "".join(f"\n  {line}" for line in step),
            "keep_best_line": best if self.keep_best else "",
            "weights_key": f"\n  param_key_g: {self.pretrained_key}" if self.pretrained_key else "",
            "scheduler": self.schedule.format(total_iter=self.total_iter),
            "gt_size": self.lq_size * self.scale,
            "train_gt": f"datasets/{self.train_set}/GT_sub_x{self.scale}.lmdb",
            "train_lq": f"datasets/{self.train_set}/LR_sub_{degradation}.lmdb",
            "val_gt": f"datasets/{self.val_set}/GT_x{self.scale}",
            "val_lq": f"datasets/{self.val_set}/LR_{degradation}",
        }


@dataclass(frozen=True, kw_only=True)
class Test(OptionFile):
    """Option file for testing a trained network."""

    template = "test.yml"

    checkpoint: str
    network: str = "HAN"  # a name in NETWORKS
    sets: tuple[str, ...] = TEST_SETS
    param_key: str = "params"

    def values(self) -> dict[str, Any]:
        """Return the network and one block of options per test set."""
        blocks = [
            f"  test_{number}:\n"
            f"    name: {name}\n"
            f"    type: PairedImageDataset\n"
            f"    dataroot_gt: datasets/{name}/GT_x{self.scale}\n"
            f"    dataroot_lq: datasets/{name}/LR_{self.degradation}x{self.scale}\n"
            f"    io_backend:\n"
            f"      type: disk"
            for number, name in enumerate(self.sets, start=1)
        ]
        return {"network": NETWORKS[self.network], "test_sets": "\n".join(blocks)}


@dataclass(frozen=True, kw_only=True)
class Leaderboard(OptionFile):
    """Option file of a leaderboard.

    Args:
        models: pairs (name on the leaderboard, experiment). If `source` is "zoo: ", a zoo entry takes the place of the
            experiment.
    """

    template = "leaderboard.yml"

    models: tuple[tuple[str, str], ...]
    sets: tuple[str, ...] = TEST_SETS
    variants: str = "full, chop, self_ensemble"
    notes: str = ""
    source: str = "experiment: experiments/"

    def values(self) -> dict[str, Any]:
        """Return the template's values: the sections of test sets and models, the baseline, and the notes."""
        return {
            "notes": f"\n# {self.notes}" if self.notes else "",
            "sets": "\n".join(f"  {name}:\n    dataroot_gt: datasets/{name}/HR" for name in self.sets),
            "models": "\n".join(f"  {name}:\n    {self.source}{model}" for name, model in self.models),
            "baseline": self.models[0][0],
        }
