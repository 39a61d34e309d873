"""`--force_yml` adds options that the table or a signature knows, and refuses others with the nearest known name."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from han_arch.cli import main
from han_arch.opt import read

pytestmark = pytest.mark.usefixtures("demo_folder")


def forced(*entries: str) -> list[str]:
    return ["train", "-opt", "demo_HAN_x4", "--check", "--force_yml", *entries]


ADDED = [
    ("train:precision=bf16", "bf16"),
    ("train:grad_clip=1e1", 10.0),
    ("train:guard:factor=5", 5),
    ("train:optim_g:fused=yes", True),
    ("val:inference=chop", "chop"),
    ("logger:keep_last=3", 3),
    ("datasets:train:filename_tmpl='{}x4'", "{}x4"),
    ("network_g:num_csam=2", 2),
    ("val:metrics:psnr:input_order=HWC", "HWC"),
    ("val:metrics:niqe={type: calculate_niqe, crop_border: 4}", {"type": "calculate_niqe", "crop_border": 4}),
    ("find_unused_parameters=false", False),
]


@pytest.mark.parametrize(("entry", "value"), ADDED, ids=[row[0].partition("=")[0] for row in ADDED])
def test_known_options_are_added(entry: str, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    way = entry.partition("=")[0].split(":")
    before: Any = read.read("demo_HAN_x4")
    for key in way[:-1]:
        before = before.get(key) or {}
    if way[-1] != "num_csam":
        assert way[-1] not in before  # else this would show nothing
    assert main(forced(entry)) == 0, capsys.readouterr().err
    resolved: Any = yaml.safe_load(capsys.readouterr().out)
    for key in way:
        resolved = resolved[key]
    assert resolved == value


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ("train:precison=bf16", ("train ", "'precison'", "precision?")),
        ("train:guard:faktor=5", ("train:guard ", "'faktor'", "factor?")),
        ("tarin:precision=bf16", ("top level", "'tarin'", "train?")),
        ("network_g:num_groups=2", ("network_g ", "'num_groups'", "num_group?")),
        ("val:metrics:pnsr:crop_border=2", ("val:metrics ", "'pnsr'", "psnr?")),
        ("datasets:trian={}", ("datasets:trian ", "name")),
        ("train:precision=bf17", ("train:precision ", "fp32 or bf16 or fp16", "'bf17'")),
        ("train:total_iter:x=1", ("train:total_iter ", "'x'")),
        ("train:grad_clip=!!python/name:os.system ''", ("train:grad_clip", "could not determine a constructor")),
    ],
)
def test_others_are_refused(entry: str, parts: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(forced(entry)) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in parts), message


def test_models_of_others_may_read_more_but_the_file_must_name_it(
    demo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option that only another package knows can be changed if the file has it, but not added."""
    opt = read.read("demo_HAN_x4")
    opt["model_type"] = "RealESRNetModel"
    opt["train"]["own"] = 1
    (demo_folder / "own.yml").write_text(yaml.safe_dump(opt))
    command = ["train", "-opt", "own.yml", "--check", "--force_yml"]
    assert main([*command, "train:own=2"]) == 0, capsys.readouterr().err
    assert yaml.safe_load(capsys.readouterr().out)["train"]["own"] == 2
    assert main([*command, "train:owner=2"]) == 2
    message = capsys.readouterr().err
    assert "'owner'" in message
    assert "own?" in message
