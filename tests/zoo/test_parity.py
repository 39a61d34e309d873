"""Our network has the same outputs as the authors' code and as super-image (on PyPI) with the same weights."""

import numpy as np
import pytest
import torch
from torch import Tensor

from han_arch import HAN, load_model
from han_arch.inference.strips import super_resolve
from han_arch.inference.variants import chop, self_ensemble
from han_arch.zoo.convert import from_authors

TOLERANCE = 1e-3  # on the 0..255 scale


@pytest.mark.parametrize("variant", ["full", "chop", "self_ensemble", "strips"])
@pytest.mark.parametrize("scale", [2, 4])
def test_authors_outputs(shared_data, scale: int, variant: str) -> None:
    known = np.load(shared_data / "parity" / f"official_han_x{scale}.npz")
    net = load_model(shared_data / "parity" / f"official_han_x{scale}.pt")
    lq = torch.from_numpy(known["lq"]).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        out = {
            "full": lambda: net(lq),
            "chop": lambda: chop(net, lq, scale),
            "self_ensemble": lambda: self_ensemble(net, lq),
            "strips": lambda: super_resolve(net, lq, strip_pixels=100),
        }[variant]()
    expected = known["full" if variant == "strips" else variant]
    np.testing.assert_allclose(255 * out[0].numpy(), expected, rtol=0, atol=TOLERANCE)


def assert_same_as_super_image(scale: int, size: tuple[int, int], **settings: int) -> None:
    super_image = pytest.importorskip("super_image", reason="super-image is not installed (pip install super-image)")
    torch.manual_seed(scale)
    theirs = super_image.HanModel(super_image.HanConfig(scale=scale, **settings)).eval()
    theirs.la.gamma.data.fill_(0.4)
    theirs.csa.gamma.data.fill_(-0.3)
    converted = from_authors(theirs.state_dict(), "super-image")
    assert converted.notes == ()
    ours = HAN(
        3,
        3,
        settings.get("n_feats", 64),
        10,
        settings.get("n_resblocks", 20),
        settings.get("reduction", 16),
        scale,
    )
    ours.load_state_dict(converted.tensors)
    lq = torch.rand(2, 3, *size)
    with torch.inference_mode():
        difference: Tensor = 255 * ours.eval()(lq) - theirs(255 * lq)
    assert difference.abs().max() < TOLERANCE


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_super_image(scale: int) -> None:
    assert_same_as_super_image(scale, (14, 19), n_feats=16, n_resblocks=2, reduction=4)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_super_image_at_full_size(scale: int) -> None:
    assert_same_as_super_image(scale, (16, 13))
