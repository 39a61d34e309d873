"""HAN on the device meta: shapes without memory for values."""

import pytest
import torch

from han_arch import HAN
from han_arch.archs.attention import LAM_FORMS


@pytest.mark.parametrize("lam_form", LAM_FORMS)
def test_forward_and_backward_on_meta(lam_form: str) -> None:
    with torch.device("meta"):
        net = HAN(3, 3, num_feat=512, num_group=2, num_block=2, upscale=4, lam_form=lam_form, num_csam=2)
        lq = torch.rand(2, 3, 500, 700, requires_grad=True)
    output = net(lq)
    assert output.shape == (2, 3, 2000, 2800)
    output.sum().backward()
    assert lq.grad is not None
    assert lq.grad.is_meta
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_an_img_range_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match="img_range"):
        HAN(3, 3, img_range=0)
