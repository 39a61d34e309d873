"""`han_arch.upscale` returns the input's type and the same pixels as the command, and rejects unsupported images."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from known_engines import photo, tiny_net
from PIL import Image

import han_arch
from han_arch.errors import UserError


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 11), (9, 11, 1), (9, 11, 2), (9, 11, 3), (9, 11, 4)])
def test_arrays(dtype: type, shape: tuple[int, ...]) -> None:
    image = photo(9, 11, shape[2] if len(shape) == 3 else 1).reshape(shape)
    whole = han_arch.upscale(image, tiny_net()) / 255
    white = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    result = han_arch.upscale((image / 255 * white).astype(dtype), tiny_net())
    assert result.dtype == dtype
    assert result.shape == (18, 22, *shape[2:])
    np.testing.assert_allclose(result / white, whole, atol=0.006)
    assert result.min() >= 0
    assert result.max() <= white


def test_an_array_that_is_a_view_or_read_only() -> None:
    image = photo(20, 24)
    image.flags.writeable = False
    turned = np.ascontiguousarray(image[::-1, ::-2])
    np.testing.assert_array_equal(han_arch.upscale(image[::-1, ::-2], tiny_net()), han_arch.upscale(turned, tiny_net()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tensors(dtype: torch.dtype, channels: int) -> None:
    pixels = photo(9, 11, channels)
    image = torch.from_numpy(pixels).permute(2, 0, 1).to(dtype).div(255).requires_grad_()
    result = han_arch.upscale(image, tiny_net())
    assert (result.dtype, result.shape, result.requires_grad) == (dtype, (channels, 18, 22), False)
    expected = torch.from_numpy(han_arch.upscale(pixels, tiny_net())).permute(2, 0, 1) / 255
    torch.testing.assert_close(result.double(), expected.double(), atol=0.012, rtol=0)
    batch = torch.stack([image, image.flip(-1)])
    results = han_arch.upscale(batch, tiny_net())
    assert results.shape == (2, channels, 18, 22)
    torch.testing.assert_close(results[0], result, rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK", "I;16"])
def test_pillow(mode: str) -> None:
    image = Image.fromarray(photo(9, 11)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(photo(9, 11, 1, np.uint16)[..., 0])
    image.info["dpi"] = (300, 300)
    result = han_arch.upscale(image, tiny_net())
    assert result.size == (22, 18)
    assert result.mode == {"P": "RGB", "1": "L", "CMYK": "RGB"}.get(mode, mode)
    assert result.info["dpi"] == (300, 300)
    if mode == "RGB":
        np.testing.assert_array_equal(np.asarray(result), han_arch.upscale(photo(9, 11), tiny_net()))


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ([[0, 1]], TypeError, "a NumPy array, a Pillow image or a tensor; got list"),
        (np.zeros((4, 4), np.int32), TypeError, "uint8, uint16, or floats.*got int32"),
        (np.zeros((4, 4), bool), TypeError, "got bool"),
        (np.zeros((4, 4, 5), np.uint8), ValueError, r"\(h, w\) or \(h, w, 1 to 4\); got \(4, 4, 5\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), ValueError, r"got \(2, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "must have pixels"),
        (np.full((4, 4), np.nan, np.float32), ValueError, "must be finite"),
        (np.array([[0.0, 255.0]]), ValueError, r"in \[0, 1\]; got 0 to 255; divide by 255"),
        (np.array([[0.0, 65535.0]], np.float32), ValueError, r"in \[0, 1\]; got 0 to 65535"),
        (np.array([[-1.0, 1.0]], np.float16), ValueError, r"in \[0, 1\]; got -1 to 1; scale or clip"),
        (torch.tensor([[[0.0, 200.0]]]), ValueError, r"in \[0, 1\]; got 0 to 200; divide by 255"),
        (torch.tensor([[[[0.0]]], [[[2.0]]]], dtype=torch.bfloat16), ValueError, r"in \[0, 1\]; got 0 to 2"),
        (torch.tensor([[[torch.inf]]]), ValueError, "must be finite"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), TypeError, "floats in.*got torch.uint8"),
        (torch.zeros(4, 4), ValueError, r"got \(4, 4\)"),
        (torch.zeros(4, 4, 3), ValueError, None),
        (torch.zeros(0, 3, 4, 4), ValueError, "at least one image"),
        (Image.new("F", (4, 4)), ValueError, "colour mode F"),
    ],
    ids=lambda value: "",
)
def test_unsupported_images(image: object, error: type[Exception], message: str | None) -> None:
    if message is None:  # (4, 4, 3) means four channels of 4 x 3 pixels
        assert han_arch.upscale(image, tiny_net()).shape == (4, 8, 6)
        return
    with pytest.raises(error, match=message):
        han_arch.upscale(image, tiny_net())


@pytest.mark.parametrize(
    "options", [{"dtype": "int8"}, {"device": "tpu"}, {"memory": "much"}, {"memory": "100M"}], ids=str
)
def test_options_that_are_refused(options: dict) -> None:
    with pytest.raises(UserError):
        han_arch.upscale(photo(8, 8), tiny_net(), **options)


def test_a_model_s_file_is_read_again_when_it_changes(tmp_path: Path, tiny_checkpoint: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(tiny_checkpoint.read_bytes())
    first = han_arch.upscale(photo(8, 8), path)
    content = torch.load(path, weights_only=True)
    content["params"]["conv_last.bias"] += 40
    torch.save(content, path)
    assert han_arch.upscale(photo(8, 8), path).astype(int).mean() > first.mean() + 10


def test_threads_do_not_disturb_each_other(tiny_checkpoint: Path) -> None:
    images = [photo(20 + seed, 30, seed=seed) for seed in range(8)]
    alone = [han_arch.upscale(image, tiny_checkpoint) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: han_arch.upscale(image, tiny_checkpoint), images))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_network_and_the_gradient_mode_stay_as_they_are() -> None:
    net = tiny_net().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    han_arch.upscale(photo(8, 8), net, dtype="bf16")
    assert net.training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    net(torch.rand(1, 3, 8, 8)).mean().backward()


def test_needs_no_basicsr(tiny_checkpoint: Path) -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'basicsr': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import numpy as np, han_arch\n"
        "from han_arch.cli import main\n"
        f"result = han_arch.upscale(np.zeros((4, 5, 3), np.uint8), {str(tiny_checkpoint)!r})\n"
        "print(result.shape, 'basicsr' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "(8, 10, 3) False", done.stderr


def test_floats_may_leave_their_range_by_a_rounding_error() -> None:
    assert han_arch.upscale(np.array([[-0.001, 1.001]]), tiny_net()).shape == (2, 4)


def test_floats_beyond_their_range_are_refused_with_their_range() -> None:
    step = np.zeros((12, 12), np.float32)
    step[4:, 4:] = 1
    enlarged = cv2.resize(step, (40, 40), interpolation=cv2.INTER_LANCZOS4)
    with pytest.raises(ValueError, match=f"{enlarged.min():.6g} to {enlarged.max():.6g}.*clip"):
        han_arch.upscale(enlarged, tiny_net())
