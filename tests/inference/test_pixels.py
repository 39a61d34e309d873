"""`upscale_pixels`: channels, alpha, retries; without tiles, the output equals that of the network alone."""

import numpy as np
import pytest
import torch
from known_engines import Repeat, photo, repeated, tiny_net

from han_arch.errors import UserError
from han_arch.inference.engines import TorchEngine, choose_device, get_engine
from han_arch.inference.pixels import Listener, NotFinite, upscale_pixels
from han_arch.inference.plan import Plan
from han_arch.inference.variants import self_ensemble

PLANS = [Plan("full"), Plan("strips"), Plan("tiles", 16, 8)]


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_samples_keep_their_values(plan: Plan, channels: int, dtype: type) -> None:
    pixels = photo(37, 50, channels, dtype)
    if channels in (2, 4):
        pixels[..., -1] = np.iinfo(dtype).max // 3
    result = upscale_pixels(pixels, Repeat(), plan)
    assert result.plan is plan
    assert result.pixels.dtype == dtype
    difference = result.pixels.astype(int) - repeated(pixels)
    assert np.abs(difference).max() <= (0 if dtype == np.uint8 else 1)  # luma weights in float32


def test_whole_image_equals_the_network() -> None:
    net, pixels = tiny_net(), photo(40, 31)
    lq = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2).float() / 255
    for ensemble in (False, True):
        with torch.no_grad():
            raw = self_ensemble(net, lq) if ensemble else net(lq)
        expected = raw.clamp(0, 1).mul(255).round()[0].permute(1, 2, 0).numpy()
        result = upscale_pixels(pixels, TorchEngine(net, "tiny", "cpu", "fp32"), Plan("full"), ensemble)
        np.testing.assert_array_equal(result.pixels, expected)


def test_grey_network_runs_channel_by_channel() -> None:
    net, pixels = tiny_net(num_in_ch=1, num_out_ch=1), photo(20, 24)
    engine = TorchEngine(net, "grey", "cpu", "fp32")
    colour = upscale_pixels(pixels, engine, Plan("full")).pixels
    for channel in range(3):
        alone = upscale_pixels(pixels[..., channel : channel + 1], engine, Plan("full")).pixels
        np.testing.assert_array_equal(colour[..., channel], alone[..., 0])


def test_alpha_bypasses_the_network() -> None:
    pixels = photo(24, 20, 4)
    result = upscale_pixels(pixels, Repeat(lambda part: part * 0), Plan("full")).pixels
    assert not result[..., :3].any()
    back = result[..., 3].astype(float).reshape(24, 2, 20, 2).mean((1, 3))
    assert np.abs(back - pixels[..., 3])[2:-2, 2:-2].mean() < 4


def test_out_of_range_values_are_clipped() -> None:
    result = upscale_pixels(np.full((4, 4, 3), 128, np.uint8), Repeat(lambda part: part * 9 - 4.5), Plan("full"))
    assert set(np.unique(result.pixels)) <= {0, 255} | {3, 4, 5}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("could not create a primitive"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_halves_the_tile(error: Exception) -> None:
    def fails_when_large(part: torch.Tensor) -> torch.Tensor:
        if part.shape[3] > 2 * 140:
            raise error
        return part

    pixels, warnings = photo(200, 300), []
    engine = Repeat(fails_when_large)
    result = upscale_pixels(pixels, engine, Plan("strips"), listener=Listener(warn=warnings.append))
    np.testing.assert_array_equal(result.pixels, repeated(pixels))
    assert [str(result.plan), len(warnings)] == ["tiles-64-32", 2]
    assert "out of memory" in warnings[0]
    assert "strips" in warnings[0]
    assert "tiles-144-32" in warnings[0]


def test_out_of_memory_to_the_end() -> None:
    def fails(part: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match="out of memory with the smallest tiles"):
        upscale_pixels(photo(80, 80), Repeat(fails), Plan("full"))


def test_other_errors_are_not_mistaken_for_memory() -> None:
    def fails(part: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        upscale_pixels(photo(8, 8), Repeat(fails), Plan("full"))


class Half(Repeat):
    """An engine that overflows where the image is bright; its float32 version does not overflow."""

    dtype = "fp16"

    def __init__(self, wide: Repeat) -> None:
        super().__init__(lambda part: part.masked_fill(part > 0.9, torch.nan))
        self.wide = wide

    def in_float32(self) -> Repeat:
        return self.wide


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("ensemble", [False, True])
def test_overflow_in_half_precision_is_computed_again(plan: Plan, ensemble: bool) -> None:
    pixels, warnings, wide = photo(40, 40) // 2, [], Repeat()
    pixels[30:, 33:] = 255
    result = upscale_pixels(pixels, Half(wide), plan, ensemble, Listener(warn=warnings.append))
    np.testing.assert_array_equal(result.pixels, repeated(pixels))
    (warning,) = warnings
    assert "not finite in fp16" in warning
    assert "float32" in warning
    if plan.kind == "tiles":
        assert max(shape[2] for shape in wide.shapes) < 40  # only the tiles with values that are not finite


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_not_finite_in_float32_is_an_error(plan: Plan) -> None:
    with pytest.raises(NotFinite, match="not finite in float32"):
        upscale_pixels(photo(40, 40), Repeat(lambda part: part / 0), plan)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_is_near(dtype: str) -> None:
    net, pixels = tiny_net(), photo(30, 30)
    results = [
        upscale_pixels(pixels, TorchEngine(net, "tiny", "cpu", name), Plan("full")).pixels.astype(float)
        for name in ("fp32", dtype)
    ]
    assert 0 < np.abs(results[0] - results[1]).mean() < 0.5
    assert next(net.parameters()).dtype == torch.float32


def test_progress_ends_at_its_total() -> None:
    calls: list[tuple[int, int]] = []
    upscale_pixels(photo(40, 40), Repeat(), Plan("tiles", 16, 8), listener=Listener(lambda *now: calls.append(now)))
    assert calls == sorted(calls)
    assert calls[0][0] == 0
    assert calls[-1][0] == calls[-1][1]
    assert len(calls) == 10


def test_devices() -> None:
    assert choose_device("auto") in ("cuda", "xpu", "mps", "cpu")
    with pytest.raises(UserError, match="device must be one of"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="device cuda is not available; use auto or"):
            choose_device("cuda")


def test_unsupported_models() -> None:
    with pytest.raises(TypeError, match="model must be a name, a path or a HAN"):
        get_engine(torch.nn.Conv2d(3, 3, 1))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="takes 4 channels"):
        get_engine(tiny_net(num_in_ch=4, num_out_ch=4, rgb_mean=(0.1, 0.2, 0.3, 0.4)))
