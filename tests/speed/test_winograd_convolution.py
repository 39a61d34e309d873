"""Compare Winograd's convolution with a direct one in float64; test the layers and calls that use it."""

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

import han_arch
from han_arch.speed import winograd
from han_arch.speed.winograd import WinogradConv2d, convolution, use_winograd
from han_arch.speed.winograd.convolution import conv3x3

pytestmark = pytest.mark.usefixtures("winograd_compiler")

# b, c, o, h, w: one position up to several blocks and tiles, complete and cut; all register counts; several images.
SHAPES = [
    (1, 16, 16, 1, 1), (1, 16, 16, 2, 3), (2, 16, 32, 3, 1), (1, 32, 16, 4, 6), (3, 16, 48, 5, 7), (1, 48, 16, 7, 47),
    (1, 16, 64, 8, 48), (2, 64, 64, 9, 49), (1, 64, 80, 6, 54), (1, 80, 112, 4, 96), (1, 16, 16, 31, 97),
    (5, 16, 16, 1, 145),
]  # fmt: skip


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def largest_error(got: Tensor, wanted: Tensor) -> float:
    """Return the largest error, divided by the standard deviation of the wanted values (at least 1)."""
    assert got.shape == wanted.shape
    got, wanted = got.detach(), wanted.detach()
    return float((got.double() - wanted).abs().max() / wanted.std(unbiased=False).clamp(min=1))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_result_and_gradients(shape: tuple[int, ...], with_bias: bool) -> None:
    b, c, o, h, w = shape
    values = [random(b, c, h, w), random(o, c, 3, 3, seed=1) / (9 * c) ** 0.5]
    values += [random(o, seed=2)] if with_bias else []
    grad = random(b, o, h, w, seed=3)
    inputs = [value.requires_grad_() for value in values]
    exact = [value.detach().double().requires_grad_() for value in values]
    got, wanted = conv3x3(*inputs), F.conv2d(*exact, padding=1)
    got.backward(grad)
    wanted.backward(grad.double())
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert largest_error(got, wanted) < 2e-5
    for one, other in zip(inputs, exact, strict=True):
        assert largest_error(one.grad, other.grad) < 2e-5


def test_any_memory_layout() -> None:
    """Input, weight and gradient may be slices, expanded pixels or permuted dimensions."""
    large, kernels = random(2, 40, 20, 60), random(32, 40, 5, 3, seed=1) / 12
    weight, bias = kernels[:16, 3:19, 1:4], random(32, seed=2)[::2]
    for x in (
        large[:, 5:21, 2:15, 3:55],
        random(1, 16, 1, 1).expand(2, 16, 13, 52),
        random(52, 13, 16, 2).permute(3, 2, 1, 0),
    ):
        wanted = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
        assert largest_error(conv3x3(x, weight, bias), wanted) < 2e-5
    x, weight = large[:, 5:21].detach().requires_grad_(), weight.detach().requires_grad_()
    for total in (
        conv3x3(x, weight).sum(),
        -F.conv2d(x, weight, padding=1).sum(),
    ):  # gradients: one expanded value
        total.backward()
    assert float(x.grad.abs().max()) < 1e-4
    assert float(weight.grad.abs().max()) < 1e-2


def test_only_the_needed_gradients_are_computed() -> None:
    x, weight, bias = random(1, 16, 5, 6), random(16, 16, 3, 3), random(16)
    for wanted in (x, weight, bias):
        inputs = [value.clone().requires_grad_(value is wanted) for value in (x, weight, bias)]
        conv3x3(*inputs).sum().backward()
        assert [value.grad is not None for value in inputs] == [value is wanted for value in (x, weight, bias)]
    assert not conv3x3(x, weight, bias).requires_grad
    with torch.no_grad():
        assert not conv3x3(x, weight.requires_grad_(), bias).requires_grad


def test_the_result_can_be_changed_in_place_and_differentiated_once() -> None:
    x = random(1, 16, 5, 6).requires_grad_()
    torch.relu_(conv3x3(x, random(16, 16, 3, 3, seed=1))).sum().backward()
    (gradient,) = torch.autograd.grad(conv3x3(x, random(16, 16, 3, 3)).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_the_number_of_threads_does_not_matter(two_threads: None) -> None:
    x, weight = random(2, 32, 23, 101), random(16, 32, 3, 3, seed=1)
    weight.requires_grad_()
    runs = []
    for threads in (2, 2, 1):
        torch.set_num_threads(threads)
        weight.grad = None
        out = conv3x3(x, weight)
        out.backward(random(2, 16, 23, 101, seed=2))
        runs.append((out, weight.grad))
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][0], runs[2][0])
    assert torch.equal(runs[0][1], runs[1][1])
    assert largest_error(runs[2][1], runs[0][1].double()) < 2e-5


def test_nan_reaches_its_neighbours_only() -> None:
    x = random(1, 16, 9, 9)
    x[0, 3, 4, 4] = torch.nan
    out = conv3x3(x, random(16, 16, 3, 3))
    assert out[:, :, 3:6, 3:6].isnan().all()
    assert out[:, :, 8].isfinite().all(), "the next tile of four rows"


def conv(**changes: object) -> nn.Conv2d:
    return nn.Conv2d(**{"in_channels": 16, "out_channels": 32, "kernel_size": 3, "padding": 1, **changes})


class Own(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    ("layer", "taken"),
    [
        (conv(), True),
        (conv(padding="same"), True),
        (conv(bias=False), True),
        (conv(in_channels=3), False),
        (conv(out_channels=24), False),
        (conv(kernel_size=1, padding=0), False),
        (conv(kernel_size=(3, 1)), False),
        (conv(padding=0), False),
        (conv(stride=2), False),
        (conv(dilation=2, padding=2), False),
        (conv(groups=2), False),
        (conv(padding_mode="reflect"), False),
        (nn.ConvTranspose2d(16, 16, 3, 1, 1), False),
        (Own(16, 16, 3, 1, 1), False),
    ],
    ids=str,
)
def test_layers_that_can_run_by_winograd(layer: nn.Module, taken: bool) -> None:
    x = random(1, layer.in_channels, 30, 40)
    before = layer(x)
    assert use_winograd(nn.Sequential(layer)) == taken
    assert isinstance(layer, WinogradConv2d) == taken
    assert largest_error(layer(x), before.double()) < 2e-5
    assert torch.equal(layer(x), before) != taken


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning")
def test_other_calls_do_not_change() -> None:
    """Tiny maps, other dtypes, autocast, compiled and exported code give the same bits as before."""
    plain = conv()
    fast = copy.deepcopy(plain)
    use_winograd(fast)
    x = random(1, 16, 32, 40)
    assert not torch.equal(fast(x), plain(x))
    assert torch.equal(fast(x[:, :, :20, :20]), plain(x[:, :, :20, :20]))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(x), plain(x))
    for compiled in (
        torch.compile(fast, backend="eager"),
        torch.export.export(fast, (x,)).module(),
        torch.jit.trace(fast, x),
    ):
        assert torch.equal(compiled(x), plain(x))
    for dtype in (torch.float64, torch.bfloat16):
        assert torch.equal(copy.deepcopy(fast).to(dtype)(x.to(dtype)), copy.deepcopy(plain).to(dtype)(x.to(dtype)))


def test_transforms_of_torch_func_and_fx_run_directly() -> None:
    plain = conv()
    fast = copy.deepcopy(plain)
    use_winograd(fast)
    x, direction = random(1, 16, 32, 40), random(1, 16, 32, 40, seed=1)
    for layer in (plain, fast):
        layer.requires_grad_(False)
    assert torch.equal(torch.fx.symbolic_trace(fast)(x), plain(x))
    results = []
    for layer in (plain, fast):
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, direction))).tangent
        gradient = torch.func.grad(lambda x, layer=layer: layer(x).square().sum())(x)
        several = torch.func.vmap(layer)(torch.stack([x, direction]))
        jvp = torch.func.jvp(layer, (x,), (direction,))
        results.append([tangent, gradient, several, *jvp])
    for got, wanted in zip(results[1], results[0], strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_default_dtype_does_not_matter(dtype: torch.dtype) -> None:
    x, weight = random(1, 16, 9, 9).requires_grad_(), random(16, 16, 3, 3).requires_grad_()
    before = conv3x3(x, weight)
    torch.set_default_dtype(dtype)
    try:
        out = conv3x3(x, weight)
        out.backward(random(1, 16, 9, 9).float())
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(out, before)
    assert x.grad.dtype == weight.grad.dtype == torch.float32
    with torch.device("meta"):
        assert torch.equal(conv3x3(x, weight), before)


def test_many_threads_for_few_tiles() -> None:
    """With more threads, blocks become narrower, so each thread has one. The output stays the same, bit for bit."""
    x, weight = random(1, 16, 5, 100), random(32, 16, 3, 3)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3, 9, 64):
            torch.set_num_threads(threads)
            results.append(conv3x3(x, weight))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


def test_copies_and_state_dicts() -> None:
    layer = conv()
    keys = list(layer.state_dict())
    use_winograd(layer)
    assert list(layer.state_dict()) == keys
    assert use_winograd(layer) == 1, "the layer already is a WinogradConv2d"
    x = random(1, 16, 32, 40)
    for same in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert isinstance(same, WinogradConv2d)
        assert torch.equal(same(x), layer(x))


def test_wrong_tensors_are_errors_before_any_memory_is_read() -> None:
    x, weight, bias = random(1, 16, 32, 32), random(32, 16, 3, 3), random(32)
    wrong = [
        (x[0], weight, bias), (x[:, :8], weight, bias), (x[:, :, :0], weight, bias), (x.double(), weight, bias),
        (x.to("meta"), weight, bias), (x, weight[:, :, :, :2], bias), (x, weight[:24], bias[:24]),
        (x, weight.double(), bias), (x, weight, bias[:31]), (x, weight, bias.double()), (x, weight, bias.to("meta")),
    ]  # fmt: skip
    for values in wrong:
        with pytest.raises(ValueError, match="multiples of 16; got"):
            conv3x3(*values)
    layer = conv()
    use_winograd(layer)
    with pytest.raises(RuntimeError, match="to have 16 channels, but got 32 channels"):
        layer(random(1, 32, 32, 32))
    assert layer(x[:0]).shape == (0, 32, 32, 32)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as fake:  # tensors without memory
        assert layer(fake.from_tensor(x)).shape == (1, 32, 32, 32)
    assert layer.to("meta")(x.to("meta")).shape == (1, 32, 32, 32)


def test_self_test_sees_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "are correct" in winograd.self_test()
    monkeypatch.setattr(convolution, "conv3x3", lambda x, weight: 1.01 * F.conv2d(x, weight, padding=1))
    assert winograd.self_test().startswith("BROKEN")


def test_public_name() -> None:
    assert han_arch.use_winograd is use_winograd
