"""Compare LAM and CSAM with naive loops that follow the equations."""

import math

import pytest
import torch

from han_arch import CSAM, LAM


def random_feats(n: int = 4, b: int = 2, c: int = 5, h: int = 3, w: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(b, c, h, w, dtype=torch.float64, generator=generator) for _ in range(n)]


def naive_lam(feats: list[torch.Tensor], alpha: float) -> torch.Tensor:
    """Compute LAM in its released form element by element: softmax over max_k(E_ik) - E_ij."""
    n, (b, c, h, w) = len(feats), feats[0].shape
    out = torch.empty(b, n * c, h, w, dtype=torch.float64)
    for image in range(b):
        flat = [feat[image].flatten().tolist() for feat in feats]
        energy = [[sum(x * y for x, y in zip(one, other, strict=True)) for other in flat] for one in flat]
        for i in range(n):
            logits = [max(energy[i]) - e for e in energy[i]]
            exponentials = [math.exp(logit - max(logits)) for logit in logits]
            for channel in range(c):
                mixed = feats[i][image, channel].clone()
                for j in range(n):
                    mixed += alpha * exponentials[j] / sum(exponentials) * feats[j][image, channel]
                out[image, i * c + channel] = mixed
    return out


def naive_csam(feat: torch.Tensor, kernel: torch.Tensor, bias: float, beta: float) -> torch.Tensor:
    """Compute CSAM in seven nested loops over each value's 3x3x3 neighbours in channel, row and column."""
    b, c, h, w = feat.shape
    out = torch.empty_like(feat)
    for image in range(b):
        for o in range(c):
            for y in range(h):
                for x in range(w):
                    total = bias
                    for dc in range(3):
                        for dy in range(3):
                            for dx in range(3):
                                i, yy, xx = o + dc - 1, y + dy - 1, x + dx - 1
                                if 0 <= i < c and 0 <= yy < h and 0 <= xx < w:
                                    total += kernel[dc, dy, dx].item() * feat[image, i, yy, xx].item()
                    value = feat[image, o, y, x].item()
                    out[image, o, y, x] = value + beta * value / (1 + math.exp(-total))
    return out


@pytest.mark.parametrize("alpha", [0.0, 0.7, -1.3])
def test_lam_equals_the_loops(alpha: float) -> None:
    feats = [0.3 * feat for feat in random_feats()]  # small enough that the softmax mixes
    lam = LAM().double()
    lam.alpha.data.fill_(alpha)
    torch.testing.assert_close(lam(feats), naive_lam(feats, alpha), rtol=1e-12, atol=1e-12)


def test_lam_mixing_equals_forward() -> None:
    feats = random_feats()
    lam = LAM().double()
    lam.alpha.data.fill_(0.4)
    matrix = lam.mixing(feats)
    mixed = torch.einsum("bij,bjchw->bichw", matrix, torch.stack(feats, 1)).flatten(1, 2)
    torch.testing.assert_close(lam(feats), mixed, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(matrix.sum(-1), torch.full((2, 4), 1.4, dtype=torch.float64))


@pytest.mark.parametrize("c", [1, 2, 3, 6])
def test_csam_equals_the_loops(c: int) -> None:
    torch.manual_seed(1)
    feat = torch.randn(2, c, 4, 3, dtype=torch.float64)
    csam = CSAM().double()
    csam.beta.data.fill_(0.6)
    expected = naive_csam(feat, csam.weight, csam.bias.item(), 0.6)
    torch.testing.assert_close(csam(feat), expected, rtol=1e-12, atol=1e-12)


def test_csam_equals_conv3d() -> None:
    torch.manual_seed(2)
    feat = torch.randn(2, 16, 7, 9, dtype=torch.float64)
    conv3d = torch.nn.Conv3d(1, 1, 3, padding=1).double()
    csam = CSAM().double()
    csam.beta.data.fill_(0.9)
    csam.weight.data.copy_(conv3d.weight.data[0, 0])
    csam.bias.data.copy_(conv3d.bias.data)
    gate = torch.sigmoid(conv3d(feat.unsqueeze(1)).squeeze(1))
    torch.testing.assert_close(csam(feat), feat + 0.9 * gate * feat, rtol=1e-12, atol=1e-12)


def test_both_start_as_the_identity() -> None:
    feats = [feat.float() for feat in random_feats()]
    assert torch.equal(LAM()(feats), torch.cat(feats, 1))
    assert torch.equal(CSAM()(feats[0]), feats[0])


def test_lam_is_finite_where_float16_overflows() -> None:
    """At img_range 255 the inner products reach 1e10, but the largest float16 is 65504."""
    torch.manual_seed(3)
    feats = [100 * torch.randn(1, 8, 12, 12).half() for _ in range(3)]
    lam = LAM().half()
    lam.alpha.data.fill_(0.5)
    out = lam(feats)
    assert out.dtype == torch.float16
    assert out.isfinite().all()
    reference = LAM().double()
    reference.alpha.data.fill_(0.5)
    expected = reference([feat.double() for feat in feats])
    torch.testing.assert_close(out.double(), expected, rtol=2e-3, atol=0.2)


def test_an_unknown_form_is_an_error() -> None:
    with pytest.raises(ValueError, match="released, paper, cosine; got 'softmax'"):
        LAM("softmax")
