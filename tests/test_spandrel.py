"""spandrel loads HAN with the pixels of han_arch, and still detects an RCAN as RCAN."""

import logging
import sys

import pytest
import torch

import han_arch.spandrel
from han_arch import HAN, load_model
from han_arch.errors import UserError

SMALL = {"num_feat": 8, "num_group": 10, "num_block": 1, "squeeze_factor": 4}


@pytest.fixture
def spandrel(monkeypatch):
    """Return spandrel; restore its main registry after the test."""
    module = pytest.importorskip("spandrel", reason="spandrel is not installed (pip install spandrel)")
    main = module.MAIN_REGISTRY
    for name in ("_architectures", "_ordered", "_by_id"):
        monkeypatch.setattr(main, name, getattr(main, name))
    return module


def network(upscale: int = 2, **settings) -> HAN:
    torch.manual_seed(upscale)
    net = HAN(settings.pop("channels", 3), settings.pop("out", 3), upscale=upscale, **(SMALL | settings))
    with torch.no_grad():
        net.lam.alpha.fill_(0.3)
        net.csam.beta.fill_(-0.2)
    return net.eval()


def assert_same_pixels(descriptor, path, channels: int = 3) -> None:
    lq = torch.rand(1, channels, 9, 12)
    with torch.no_grad():
        expected = load_model(path)(lq).clamp(0, 1)
    torch.testing.assert_close(descriptor(lq), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("upscale", [2, 3, 4, 8])
def test_our_file(spandrel, tmp_path, upscale: int) -> None:
    path = tmp_path / "net.pth"
    network_g = {"type": "HAN", "num_in_ch": 3, "num_out_ch": 3, "upscale": upscale, **SMALL}
    state = network(upscale).state_dict()
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    torch.save({"params": other, "params_ema": state, "network_g": network_g}, path)
    assert han_arch.spandrel.install()
    model = spandrel.ModelLoader().load_from_file(path)
    assert (model.architecture.id, model.scale, model.input_channels, model.purpose) == ("HAN", upscale, 3, "SR")
    assert_same_pixels(model, path)


def test_grey_network_and_safetensors(spandrel, tmp_path) -> None:
    save_file = pytest.importorskip("safetensors.torch", reason="safetensors is not installed").save_file
    path = tmp_path / "net.safetensors"
    save_file(network(channels=1, out=1, lam_form="cosine").state_dict(), path)
    han_arch.spandrel.install()
    model = spandrel.ModelLoader().load_from_file(path)
    assert (model.input_channels, model.output_channels) == (1, 1)
    assert_same_pixels(model, path, channels=1)


@pytest.mark.parametrize("scale", [2, 4])
def test_authors_file(spandrel, shared_data, scale: int) -> None:
    """The reference is the output of the authors' code. spandrel without han_arch fails on the same file."""
    import numpy as np

    folder = shared_data / "parity"
    state = torch.load(folder / f"official_han_x{scale}.pt", weights_only=True)
    with pytest.raises((RuntimeError, KeyError)):
        spandrel.ModelLoader().load_from_state_dict(dict(state))
    han_arch.spandrel.install()
    model = spandrel.ModelLoader().load_from_file(folder / f"official_han_x{scale}.pt")
    known = np.load(folder / f"official_han_x{scale}.npz")
    lq = torch.from_numpy(known["lq"]).permute(2, 0, 1)[None] / 255
    np.testing.assert_allclose(255 * model(lq)[0].numpy(), known["full"].clip(0, 255), rtol=0, atol=1e-3)


@pytest.mark.parametrize("prefix", ["", "_orig_mod.module.", "model._orig_mod."])
def test_wrapped_weights(spandrel, prefix: str) -> None:
    han_arch.spandrel.install()
    net = network()
    state = {prefix + key: value for key, value in net.state_dict().items()}
    model = spandrel.ModelLoader().load_from_state_dict(state)
    lq = torch.rand(1, 3, 9, 12)
    with torch.no_grad():
        torch.testing.assert_close(model(lq), net(lq).clamp(0, 1), rtol=0, atol=1e-6)


def test_huge_and_nan_weights_are_refused(spandrel) -> None:
    han_arch.spandrel.install()
    state = network().state_dict()
    wide = {"conv_first.weight": torch.zeros(9000, 3, 3, 3), "upsample.0.weight": torch.zeros(36000, 1, 1, 1)}
    with pytest.raises(UserError, match="does not fit"):
        spandrel.ModelLoader().load_from_state_dict(state | wide)
    with pytest.raises(UserError, match=r"conv_last\.bias contains nan"):
        spandrel.ModelLoader().load_from_state_dict(state | {"conv_last.bias": torch.full((3,), torch.nan)})


def test_super_image_weights(spandrel) -> None:
    """The reference is the network of super-image."""
    super_image = pytest.importorskip("super_image", reason="super-image is not installed (pip install super-image)")
    torch.manual_seed(0)
    theirs = super_image.HanModel(super_image.HanConfig(scale=3, n_resblocks=1, n_feats=8, reduction=4)).eval()
    theirs.la.gamma.data.fill_(0.3)
    theirs.csa.gamma.data.fill_(-0.2)
    han_arch.spandrel.install()
    model = spandrel.ModelLoader().load_from_state_dict(theirs.state_dict())
    lq = torch.rand(1, 3, 11, 8)
    with torch.no_grad():
        expected = (theirs(255 * lq) / 255).clamp(0, 1)
    torch.testing.assert_close(model(lq), expected, rtol=0, atol=1e-5)


def test_rcan_stays_rcan(spandrel) -> None:
    from spandrel.architectures.RCAN import RCAN

    torch.manual_seed(0)
    state = RCAN(scale=2, n_resgroups=2, n_resblocks=2, n_feats=8, reduction=4).state_dict()
    han_arch.spandrel.install()
    assert spandrel.ModelLoader().load_from_state_dict(state).architecture.id == "RCAN"


def test_install_twice_and_into_another_registry(spandrel) -> None:
    assert han_arch.spandrel.install() is True
    assert han_arch.spandrel.install() is False
    order = [support.architecture.id for support in spandrel.MAIN_REGISTRY.architectures("detection")]
    assert order.count("HAN") == 1
    assert order.index("HAN") < order.index("RCAN")
    own = spandrel.ArchRegistry()
    assert han_arch.spandrel.install(own) is True
    assert "HAN" in own


def test_assumed_options_are_logged(spandrel, caplog) -> None:
    han_arch.spandrel.install()
    with caplog.at_level(logging.INFO, "han_arch"):
        spandrel.ModelLoader().load_from_state_dict(network().state_dict())
    assert "assumed" in caplog.text
    assert "res_scale 1, img_range 255.0, rgb_mean None, lam_form released" in caplog.text


def test_without_spandrel(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(UserError, match=r"pip install 'han_arch\[spandrel\]'"):
        han_arch.spandrel.install()
