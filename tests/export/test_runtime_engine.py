"""`basicsr upscale --runtime` gives PyTorch's pixels, for complete images and for tiles."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from han_arch.cli import main
from han_arch.export.runtime import load_runtime, whole_numbers


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows, columns = np.mgrid[:50, :61]
    pixels = np.stack([rows * 4, columns * 4, (rows * columns) % 256], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save("photo.png")
    return tmp_path / "photo.png"


def upscale(out: str, model: Path, *words: str) -> np.ndarray:
    assert main(["upscale", "photo.png", "-o", out, "--model", str(model), *words]) == 0
    with Image.open(out) as image:
        return np.asarray(image).astype(int)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_same_pixels_as_pytorch(runtime: str, photo: Path, checkpoint: Path, exported) -> None:
    model = exported(runtime)
    wanted, got = upscale("torch.png", checkpoint), upscale("runtime.png", model, "--runtime", runtime)
    assert got.shape == wanted.shape == (100, 122, 3)
    assert np.abs(got - wanted).max() <= 1  # a value between two integers may be rounded up or down
    assert (got != wanted).mean() < 1e-3


def test_the_plan_uses_the_file_s_metadata(photo: Path, exported, capsys: pytest.CaptureFixture[str]) -> None:
    model = exported("onnx")
    upscale("full.png", model, "--runtime", "onnx")
    assert "full.png 122x100: full (the complete image at once)" in capsys.readouterr().out
    assert whole_numbers(load_runtime(model, "onnx").metadata, model, num_feat=99, num_group=99) == [8, 1]


def test_bfloat16_in_openvino(photo: Path, checkpoint: Path, exported) -> None:
    wanted = upscale("torch.png", checkpoint)
    got = upscale("bf16.png", exported("openvino"), "--runtime", "openvino", "--dtype", "bf16")
    assert 0 <= np.abs(got - wanted).mean() < 1.5


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--runtime", "onnx"], ["--runtime onnx", "--model", ".onnx", "basicsr export"]),
        (["--runtime", "onnx", "--model", "gone.onnx"], ["gone.onnx", "basicsr export"]),
        (["--runtime", "onnx", "--model", "photo.png"], ["photo.png", "onnx", ".onnx file"]),
        (["--runtime", "onnx", "--model", "x.onnx", "--dtype", "fp16"], ["dtype", "fp32", "fp16"]),
    ],
)
def test_impossible_requests_are_refused(
    words: list[str], parts: list[str], photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["upscale", "photo.png", "-o", "out.png", *words]) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in parts)
    assert not (photo.parent / "out.png").exists()


def test_files_without_their_dimensions_are_refused() -> None:
    metadata = {"scale": "2", "num_in_ch": "3", "num_feat": "many"}
    assert whole_numbers(metadata, Path("old.onnx"), scale=2, num_in_ch=4) == [2, 3]
    for key, most in (("num_feat", 9), ("num_group", 9), ("scale", 1)):
        with pytest.raises(ValueError, match=rf"old\.onnx .*{key}.*basicsr export"):
            whole_numbers(metadata, Path("old.onnx"), **{key: most})


@pytest.mark.slow
def test_the_guide_s_commands(photo: Path, exported) -> None:
    """The commands of docs/upscale.md run unchanged, with a network from the package."""
    exported("onnx")  # skips the test if the packages are not installed
    guide = (Path(__file__).resolve().parents[2] / "docs" / "upscale.md").read_text("utf-8").split("## Export")[1]
    (block,) = re.findall(r"^```sh\n(.*?)^```", guide, re.M | re.S)
    with Image.open("photo.png") as image:
        image.save("photo.jpg")
    for command in block.splitlines():
        assert main(shlex.split(command)[1:]) == 0
    with Image.open("onnx.png") as image:
        assert image.size == (4 * 61, 4 * 50)
