"""Checks of single options: missing, unknown, wrong type, out of range, not registered. Each fails and passes once."""

import copy
from typing import Any

import pytest
import torch
from standins import DELETE, complete, found, sound_options

from han_arch.opt import load

pytestmark = pytest.mark.usefixtures("demo_folder")


def test_the_unchanged_files_are_sound() -> None:
    assert found({}) == []
    assert found({}, "demo_test_HAN_x4") == []


TRAIN, LQ = "datasets:train:", "datasets:train:dataroot_lq"
WRONG = [
    # missing
    ("train", DELETE, "the option file | train; | a mapping"),
    ("network_g", None, "the option file | network_g; | a mapping | a network as `type`"),
    ("train:total_iter", DELETE, "train | total_iter; | a whole number >= 1"),
    ("train:optim_g:lr", DELETE, "train:optim_g | lr; | a number > 0"),
    ("val:save_img", DELETE, "val | save_img; | true or false"),
    ("val:val_freq", DELETE, "val | val_freq; | a whole number >= 1"),
    ("logger:use_tb_logger", DELETE, "logger | use_tb_logger"),
    ("datasets:train", DELETE, "datasets | train"),
    ("datasets:val:name", DELETE, "datasets:val | name"),
    (TRAIN + "use_hflip", DELETE, "datasets:train | use_hflip; | true or false"),
    (TRAIN + "gt_size", DELETE, "datasets:train | gt_size"),
    ("val:metrics:psnr:crop_border", DELETE, "val:metrics:psnr | crop_border; | a whole number >= 0"),
    ("network_g:num_in_ch", DELETE, "network_g | num_in_ch; | a value"),
    # unknown
    ("manual_sed", 1, "manual_sed | manual_seed"),
    ("crop_border", 4, "crop_border | top-level | crop_border in each metric of val:metrics"),
    ("train:total_iters", 7, "train:total_iters | total_iter"),
    ("train:optim_g:learning_rate", 1, "train:optim_g:learning_rate | known"),
    ("train:optim_g:beta", [0.9, 0.99], "train:optim_g:beta | betas"),
    ("train:scheduler:period", [1200], "train:scheduler:period | periods"),
    ("train:pixel_opt:loss_wieght", 1, "train:pixel_opt:loss_wieght | loss_weight"),
    ("train:huber_loss", {"type": "HuberLoss"}, "train:huber_loss | known"),
    ("train:second_opt", {"type": "HuberLoss", "detla": 1}, "train:second_opt:detla | delta"),
    ("train:optim_g", {"type": "SGD", "lr": 0.1, "momntum": 1}, "train:optim_g:momntum | momentum"),
    ("train:guard:max_los", 1.0, "train:guard:max_los | max_loss"),
    ("val:val_frequency", 1, "val:val_frequency | val_freq"),
    ("val:metrics:psnr:test_ychannel", True, "val:metrics:psnr:test_ychannel | test_y_channel"),
    ("logger:print_frq", 1, "logger:print_frq | print_freq"),
    ("logger:wandb:proj", "x", "logger:wandb:proj | project"),
    ("path:pretrained_network_g", "x", "path:pretrained_network_g | pretrain_network_g"),
    ("dist_params:backand", "gloo", "dist_params:backand | backend"),
    ("network_g:num_feet", 3, "network_g:num_feet | num_feat"),
    (TRAIN + "gt_sise", 3, "datasets:train:gt_sise | gt_size"),
    (TRAIN + "io_backend:kind", 3, "datasets:train:io_backend:kind | known: type"),
    # not registered
    ("model_type", "HANModle", "model_type | 'HANModle' | HANModel"),
    ("network_g:type", "HANN", "network_g:type | 'HANN' | HAN"),
    (TRAIN + "type", "PairImageDataset", "datasets:train:type | 'PairImageDataset' | PairedImageDataset"),
    ("train:pixel_opt:type", "L1", "train:pixel_opt:type | 'L1'"),
    ("train:optim_g:type", "Adm", "train:optim_g:type | 'Adm' | Adam"),
    ("train:scheduler:type", "Cosine", "train:scheduler:type | 'Cosine'"),
    ("val:metrics:psnr:type", "psnr", "val:metrics:psnr:type | 'psnr'"),
    # type and range
    ("name", "../elsewhere", "name | letters, digits | '../elsewhere'"),
    ("name", 7, "name | letters"),
    ("num_gpu", -1, "num_gpu | a whole number >= 0 or auto | -1"),
    ("num_gpu", "all", "num_gpu | a whole number >= 0 or auto | 'all'"),
    ("manual_seed", 1.5, "manual_seed | a whole number >= 0 and <= 2147483648 or ~ | 1.5"),
    ("scale", True, "scale | a whole number >= 1 | True"),
    ("train", [1], "train | a mapping | [1]"),
    ("train:ema_decay", 1, "train:ema_decay | a number >= 0 and < 1 | 1"),
    ("train:ema_decay", float("nan"), "train:ema_decay | a number"),
    ("train:total_iter", "many", "train:total_iter | a whole number >= 1 | 'many'"),
    ("train:total_iter", 0, "train:total_iter | a whole number >= 1 | 0"),
    ("train:warmup_iter", -2, "train:warmup_iter | a whole number >= -1 | -2"),
    ("train:optim_g:lr", 0, "train:optim_g:lr | a number > 0 | 0"),
    ("train:optim_g:betas", [0.9], "train:optim_g:betas | a list of 2 values, each a number >= 0 and < 1 | [0.9]"),
    ("train:optim_g:betas", [0.9, 1], "train:optim_g:betas | [0.9, 1]"),
    ("train:optim_g:fused", 1, "train:optim_g:fused | true or false or ~ | 1"),
    ("train:scheduler:periods", [], "train:scheduler:periods | one or more values | a whole number >= 1 | []"),
    ("train:scheduler:eta_min", -1, "train:scheduler:eta_min | a number >= 0 | -1"),
    ("train:pixel_opt:reduction", "man", "train:pixel_opt:reduction | none or mean or sum | 'man'"),
    ("train:precision", "half", "train:precision | fp32 or bf16 or fp16 | 'half'"),
    ("train:accumulate", 0, "train:accumulate | a whole number >= 1 | 0"),
    ("train:grad_clip", 0, "train:grad_clip | a number > 0 or ~ | 0"),
    ("winograd", "yes", "winograd | true or false | 'yes'"),
    ("train:guard:factor", 1, "train:guard:factor | a number > 1 | 1"),
    ("train:guard:action", "stop", "train:guard:action | skip or rollback | 'stop'"),
    ("val:metrics:psnr:better", "high", "val:metrics:psnr:better | higher or lower | 'high'"),
    ("val:inference", "tile", "val:inference | full, or one"),
    ("val:inference", "tiled-64-8", "val:inference | tiles- | 'tiled-64-8'"),
    ("logger:print_freq", 0, "logger:print_freq | a whole number >= 1 | 0"),
    ("train:second_opt", "L1Loss", "train:second_opt | a mapping | a loss as `type` | 'L1Loss'"),
    ("logger:keep_last", 0, "logger:keep_last | a whole number >= 1 or ~ | 0"),
    ("dist_params:port", 70000, "dist_params:port | a whole number >= 1 and <= 65535 | 70000"),
    (TRAIN + "batch_size_per_gpu", 0, "datasets:train:batch_size_per_gpu | a whole number >= 1 | 0"),
    (TRAIN + "use_rot", "no", "datasets:train:use_rot | true or false | 'no'"),
    (TRAIN + "filename_tmpl", "x4", "datasets:train:filename_tmpl | text that contains {} | 'x4'"),
    (TRAIN + "prefetch_mode", "gpu", "datasets:train:prefetch_mode | cuda or cpu or ~ | 'gpu'"),
    # values that the network's constructor rejects
    ("network_g:fusion", "add", "network_g | HAN | fusion"),
    ("network_g:squeeze_factor", 16, "network_g | HAN | num_feat"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "parts"), WRONG, ids=[f"{row[0]}={row[1]}"[:60] for row in WRONG])
def test_one_mistake_is_one_problem(path: str, value: Any, parts: str) -> None:
    """The message starts with the path of the option. Then it says what is accepted, found, or probably meant."""
    (problem,) = [problem for problem in found({path: value}) if not problem.startswith("warning")]
    where, *rest = parts.split(" | ")
    assert problem.startswith(where)
    assert all(part in problem for part in rest), problem


RIGHT = [
    ("train:optim_g", {"type": "SGD", "lr": 0.1, "momentum": 0.9}),
    ("train:scheduler", {"type": "StepLR", "step_size": 5, "gamma": 0.5}),
    ("train:pixel_opt", {"type": "HuberLoss", "delta": 0.5}), ("train:second_opt", {"type": "L1Loss"}),
    ("train:total_iter", 1e3), ("train:ema_decay", 0), ("train:warmup_iter", 0), ("manual_seed", None),
    ("num_gpu", 1), ("num_gpu", 0), ("winograd", False), ("train:optim_g:fused", True), ("train:optim_g:eps", 1e-8),
    ("train:optim_g:type", "AdamW"), ("train:pixel_opt:type", "CharbonnierLoss"), ("val:metrics", None),
    ("train:precision", "bf16"), ("train:channels_last", True), ("train:compile", False), ("train:grad_clip", None),
    ("train:grad_clip", 0.5), ("train:accumulate", 2), ("logger:keep_last", 3), ("logger:keep_best", "psnr"),
    ("train:guard", {"max_loss": None, "factor": 10.0, "give_up_after": 3, "action": "rollback"}),
    ("val:inference", "self_ensemble"), ("val:inference", "tiles-64-8"), ("val", None), ("path", None),
    ("val:metrics:niqe", {"type": "calculate_niqe", "crop_border": 4, "better": "lower", "convert_to": "y"}),
    ("network_g:rgb_mean", None), ("network_g:layer_attention", None), (TRAIN + "filename_tmpl", "{}x4"),
    (TRAIN + "meta_info_file", None), ("find_unused_parameters", True), ("logger:wandb", None),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), RIGHT, ids=[f"{row[0]}={row[1]}"[:60] for row in RIGHT])
def test_right_values_are_no_problem(path: str, value: Any) -> None:
    assert found({path: value}) == []


def test_squeeze_factor_of_networks_that_do_not_check_it() -> None:
    rcan = {"type": "RCAN", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_group": 1, "num_block": 1}
    assert found({"network_g": {**rcan, "squeeze_factor": 8}}) == []
    (problem,) = found({"network_g": {**rcan, "squeeze_factor": 16}})
    assert problem.startswith("network_g:squeeze_factor ")
    assert "num_feat (8); got 16" in problem


def test_every_problem_is_reported_at_once() -> None:
    changes = {"train:total_iter": "x", "val:val_frq": 1, "network_g:typo": 1, "logger:print_freq": 0, LQ: "gone"}
    problems = "\n".join(found(changes))
    for where in ("train:total_iter", "val:val_frq", "network_g:typo", "logger:print_freq", LQ):
        assert where in problems
    assert len(problems.splitlines()) == 5


OURS = ["train:precision", "train:channels_last", "train:compile", "train:grad_clip", "train:accumulate", "train:guard",
        "logger:keep_last", "logger:keep_best", "val:inference", "winograd", "train:second_opt"]  # fmt: skip


@pytest.mark.parametrize("path", OURS)
def test_options_of_hanmodel_alone(path: str) -> None:
    value = dict(RIGHT)[path] if path != "train:grad_clip" else 0.5
    assert found({path: value}) == []
    (problem,) = found({path: value, "model_type": "SRModel"})
    assert problem.startswith(f"{path} ")
    assert "only with model_type HANModel; got model_type SRModel" in problem


def test_options_of_adversarial_models_alone() -> None:
    (problem,) = found({"train:net_d_iters": 1})
    assert problem.startswith("train:net_d_iters ")
    assert "only with model_type SRGANModel; got model_type HANModel" in problem
    assert found({"train:net_d_iters": 1, "model_type": "ESRGANModel"}) == []


def test_models_of_other_packages_may_read_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown options are accepted if a class of another package may read them; likely typing errors are warnings."""
    from basicsr.utils import registry

    class ForeignModel:
        pass

    class ForeignDataset:
        pass

    class ForeignNet:
        def __init__(self, width: int, **rest: int) -> None:
            pass

    for kind, cls in (("MODEL", ForeignModel), ("DATASET", ForeignDataset), ("ARCH", ForeignNet)):
        entries = getattr(registry, f"{kind}_REGISTRY")
        monkeypatch.setattr(entries, "_obj_map", {**entries._obj_map, cls.__name__: cls})
    foreign = {
        "model_type": "ForeignModel", "train:teacher": 1, TRAIN + "type": "ForeignDataset", TRAIN + "jitter": 0.5,
        TRAIN + "flips": True, "train:precision": "fp16",
        "network_g": {"type": "ForeignNet", "width": 3, "depth": 2},
    }  # fmt: skip
    assert found(foreign) == []
    (problem,) = found({**foreign, "train:total_itr": 3})
    assert problem.startswith("warning: train:total_itr: ")
    assert "another package" in problem
    assert problem.endswith("did you mean total_iter?")
    # An old option name of BasicSR can be a valid name in another package.
    assert "did you mean use_hflip" in found({**foreign, TRAIN + "use_flip": True})[0]
    assert found({**foreign, "network_g:width": DELETE}) == ["network_g lacks width; add this option (a value)"]


def paths(options_: Any, where: str = "") -> list[str]:
    """Return the path key:key of every option in a file."""
    if not isinstance(options_, dict):
        return []
    own = [f"{where}:{key}".removeprefix(":") for key in options_]
    return own + [path for key, path in zip(options_, own, strict=True) for path in paths(options_[key], path)]


@pytest.mark.parametrize("value", [None, "x", [{}], {"type": [], 1: 2}], ids=str)
def test_no_content_breaks_the_check(value: Any) -> None:
    """A wrong value at any path gives problems, but no exception."""
    folders = {f"{TRAIN}{key}": sound_options()["datasets"]["val"][key] for key in ("dataroot_gt", "dataroot_lq")}
    quick = {TRAIN + "io_backend:type": "disk", **folders}  # an LMDB would be read in a process of its own
    for path in paths(sound_options()):
        assert isinstance(found({**quick, path: value}), list)
    assert found(dict.fromkeys(sound_options(), value))


def test_a_huge_network_takes_no_memory() -> None:
    """The weights of this network would need more memory than the machine can address."""
    assert found({"network_g:num_feat": 2**22}) == []


def test_a_network_that_reads_values_of_tensors_is_tried_on_the_cpu() -> None:
    swin = {"type": "SwinIR", "upscale": 4, "in_chans": 3, "img_size": 8, "window_size": 4, "depths": [1],
            "embed_dim": 12, "num_heads": [2], "mlp_ratio": 2, "upsampler": "pixelshuffle"}  # fmt: skip
    before = torch.get_rng_state()
    assert found({"network_g": swin}) == []
    assert torch.equal(torch.get_rng_state(), before)
    (problem,) = found({"network_g": {**swin, "upsampler": 3, "num_heads": []}})
    assert problem.startswith("network_g: SwinIR cannot be built: ")


def test_the_check_changes_nothing() -> None:
    for changes in ({}, {"val:val_freq": 4e2, TRAIN + "use_flip": True, "num_gpu": "auto", "train:total_iter": "x"}):
        opt = complete(changes)
        before = copy.deepcopy(opt)
        load.find_problems(opt)
        assert opt == before
