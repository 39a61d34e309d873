"""Checkpoints of every known form are recognised, converted, and loaded completely or refused with one line."""

import json
import logging
import pickle

import pytest
import torch
from authors_form import to_authors_names

from han_arch import HAN, load_model
from han_arch.archs.han_arch import DIV2K_RGB_MEAN
from han_arch.errors import UserError
from han_arch.zoo.load import load_strict, warm_start
from han_arch.zoo.recognise import read_checkpoint

SMALL = {"num_feat": 8, "num_group": 2, "num_block": 2, "squeeze_factor": 4}
OF_HAN = ("lam.", "csam.", "conv_lam.", "conv_fuse.")


def network(upscale: int = 2, seed: int = 0, channels: int = 3, **settings) -> HAN:
    torch.manual_seed(seed)
    net = HAN(channels, channels, upscale=upscale, **(SMALL | settings))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return net.eval()


def backbone(net: HAN) -> dict[str, torch.Tensor]:
    return {key: value for key, value in net.state_dict().items() if not key.startswith(OF_HAN)}


def authors(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return to_authors_names(state, SMALL["num_group"], SMALL["num_block"])


def save(content: object, path):
    torch.save(content, path)
    return path


def assert_same_pixels(one: HAN, other: HAN) -> None:
    lq = torch.rand(2, one.conv_first.in_channels, 7, 6)
    with torch.no_grad():
        torch.testing.assert_close(one(lq), other(lq), rtol=0, atol=1e-5)


@pytest.mark.parametrize("upscale", [2, 3, 4, 8])
def test_load_model_infers_the_network_from_shapes(tmp_path, caplog, upscale: int) -> None:
    net = network(upscale)
    with caplog.at_level(logging.INFO, "han_arch"):
        loaded = load_model(save({"params": net.state_dict()}, tmp_path / "net.pth"))
    assert loaded.upscale == upscale
    assert not loaded.training
    assert_same_pixels(loaded, net)
    assert "res_scale 1, img_range 255.0, rgb_mean None, lam_form released" in caplog.text


@pytest.mark.parametrize(
    "settings",
    [
        {"num_feat": 12, "num_group": 3, "num_block": 1, "squeeze_factor": 3},
        {"channels": 1},
        {"fusion": "sum", "num_csam": 2},
        {"lam_form": "cosine"},
        {"layer_attention": None},
        {"spatial_attention": None},
    ],
)
def test_load_model_recognises_variants_without_options(tmp_path, settings: dict) -> None:
    net = network(**settings)
    assert_same_pixels(load_model(save(net.state_dict(), tmp_path / "net.pth")), net)


def test_options_in_the_file_are_used(tmp_path, caplog) -> None:
    options = {"res_scale": 0.5, "img_range": 1.0, "rgb_mean": [0.1, 0.2, 0.3], "lam_form": "paper"}
    net = network(**options)
    network_g = {"type": "HAN", "num_in_ch": 3, "num_out_ch": 3, "upscale": 2, **SMALL, **options}
    with caplog.at_level(logging.INFO, "han_arch"):
        loaded = load_model(save({"params": net.state_dict(), "network_g": network_g}, tmp_path / "net.pth"))
    assert_same_pixels(loaded, net)
    assert loaded.lam.form == "paper"
    assert "assumed" not in caplog.text


def test_params_ema_is_the_default_key(tmp_path) -> None:
    plain, ema = network(seed=1), network(seed=2)
    path = save({"params": plain.state_dict(), "params_ema": ema.state_dict()}, tmp_path / "net.pth")
    assert_same_pixels(load_model(path), ema)
    assert torch.equal(read_checkpoint(path, "params").tensors["conv_last.bias"], plain.conv_last.bias)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrapper_prefixes_are_removed(tmp_path, prefix: str) -> None:
    net = network()
    state = {prefix + key: value for key, value in net.state_dict().items()}
    assert_same_pixels(load_model(save({"params": state}, tmp_path / "net.pth")), net)


def test_safetensors_with_and_without_options(tmp_path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    net = network(lam_form="paper")
    network_g = {"type": "HAN", "num_in_ch": 3, "num_out_ch": 3, "upscale": 2, "lam_form": "paper", **SMALL}
    safetensors.save_file(net.state_dict(), tmp_path / "a.safetensors", {"network_g": json.dumps(network_g)})
    safetensors.save_file(authors(network().state_dict()), tmp_path / "b.safetensors")
    assert_same_pixels(load_model(tmp_path / "a.safetensors"), net)
    assert_same_pixels(load_model(tmp_path / "b.safetensors"), network())
    (tmp_path / "c.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:500])
    with pytest.raises(UserError, match=r"c\.safetensors is damaged"):
        load_model(tmp_path / "c.safetensors")


def test_authors_form(tmp_path) -> None:
    net = network(4)
    checkpoint = read_checkpoint(save(authors(net.state_dict()), tmp_path / "han.pt"))
    assert checkpoint.summary == "HAN in the authors' format, 2 groups x 2 blocks x 8 features, x4"
    assert checkpoint.tensors.keys() == net.state_dict().keys()
    assert_same_pixels(load_model(tmp_path / "han.pt"), net)


def test_trained_mean_shift_is_folded_in(tmp_path, caplog) -> None:
    """The expected output is computed as in the authors' code, with trained mean-shift convolutions."""
    net = network(2)
    state = authors(net.state_dict())
    torch.manual_seed(5)
    state["sub_mean.weight"] = state["sub_mean.weight"] + 0.1 * torch.randn(3, 3, 1, 1)
    state["sub_mean.bias"] = state["sub_mean.bias"] + 5 * torch.randn(3)
    state["add_mean.weight"] = state["add_mean.weight"] + 0.1 * torch.randn(3, 3, 1, 1)
    state["add_mean.bias"] = state["add_mean.bias"] + 5 * torch.randn(3)
    with caplog.at_level(logging.INFO, "han_arch"):
        loaded = load_model(save(state, tmp_path / "trained.pt"))
    assert "conv_first, conv_last and rgb_mean were changed" in caplog.text
    lq = torch.rand(1, 3, 9, 8)
    conv = torch.nn.functional.conv2d
    with torch.no_grad():
        net.mean.zero_()
        net.img_range = 1.0  # so that only the two convolutions normalise
        expected = conv(net(conv(255 * lq, state["sub_mean.weight"], state["sub_mean.bias"])),
                        state["add_mean.weight"], state["add_mean.bias"])  # fmt: skip
        torch.testing.assert_close(255 * loaded(lq), expected, rtol=0, atol=2e-3)


def test_a_small_mean_shift_is_not_dropped(tmp_path) -> None:
    """sub_mean.weight multiplies values up to 255, so a relative difference of 9e-4 matters."""
    state = authors(network().state_dict())
    state["sub_mean.weight"] = state["sub_mean.weight"] * (1 + 9e-4)
    checkpoint = read_checkpoint(save(state, tmp_path / "net.pth"))
    assert any("mean shift" in note for note in checkpoint.notes)
    state["sub_mean.weight"] = torch.eye(3).view(3, 3, 1, 1) * (1 + 1e-7)
    assert not read_checkpoint(save(state, tmp_path / "net.pth")).notes


def test_mean_shift_of_range_1_is_recognised(tmp_path) -> None:
    net = network(2, img_range=1.0)
    state = authors(net.state_dict())
    state |= {key: state[key] / 255 for key in ("sub_mean.bias", "add_mean.bias")}
    loaded = load_model(save(state, tmp_path / "range1.pt"))
    assert loaded.img_range == 1.0
    assert_same_pixels(loaded, net)


def broken(state: dict[str, torch.Tensor], *drop: str, **add: torch.Tensor) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key not in drop} | add


def moved(state: dict[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    return {new + key.removeprefix(old) if key.startswith(old) else key: value for key, value in state.items()}


GATE = "body.0.residual_group.0.rcab.3.attention.1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"layer.weight": torch.zeros(1)}, "another network … layer.weight"),
        ({"params": {"layer.weight": torch.zeros(1)}, "network_g": {"type": "EDSR"}}, "EDSR"),
        ({"params": network().state_dict() | {"step": 3}}, "params … step … tensor"),
        ({"epoch": 3}, "mapping … epoch … a network's weights"),
        ([1, 2], "list … a network's weights"),
        (broken(network().state_dict(), "conv_last.bias"), "missing … conv_last.bias"),
        (broken(network().state_dict(), more=torch.zeros(1)), "not in the network … more"),
        (broken(network().state_dict(), **{"conv_last.bias": torch.zeros(4)}), "another shape … conv_last.bias"),
        (broken(authors(network().state_dict()), more=torch.zeros(1)), "1 keys … more"),
        (broken(authors(network().state_dict()), "sub_mean.bias"), "sub_mean.weight … mean shift … all four"),
        (broken(authors(network().state_dict()), "head.0.weight", "head.0.bias"), "of another network"),
        (broken(network().state_dict(), "upsample.0.weight"), "upsampling … num_feat, are [] … [4] for x2"),
        (backbone(network()), "RCAN in BasicSR's format … strict_load_g to false"),
        (authors(backbone(network())), "RCAN in its authors' format … strict_load_g to false"),
        ({"params": network().state_dict(), "network_g": {"type": "HAN", "upscale": 9}}, "upscale … 9"),
        ({"params": network().state_dict(), "network_g": {"type": "HAN", "typo": 1}}, "typo"),
        ({"params": network().state_dict(), "network_g": {"type": "HAN", "lam_form": "x"}}, "lam_form … 'x'"),
        ({"params": network().state_dict(), "network_g": {"type": "HAN", "num_feat": "8"}}, "cannot be built"),
        ({"params": network().state_dict(), "network_g": {"type": "EDSR"}}, "HAN's weights … EDSR"),
        (
            broken(network().state_dict(), **{"body.999999.conv.weight": torch.zeros(1)}),
            "3 groups … 999999",
        ),
        (
            broken(network().state_dict(), **{"upsample.0.weight": torch.tensor(3.0)}),
            "upsample.0.weight … 4-dim",
        ),
        (
            broken(network().state_dict(), **{"conv_first.weight": torch.zeros(0, 3, 3, 3)}),
            "conv_first.weight",
        ),
        (
            broken(network().state_dict(), **{f"{GATE}.weight": torch.zeros(0, 8, 1, 1)}),
            f"{GATE}.weight … 4-dim",
        ),
        (
            broken(network().state_dict(), **{"conv_first.bias": torch.zeros(8, dtype=torch.int32)}),
            "floating-point",
        ),
        (
            broken(authors(network().state_dict()), **{"csa.conv.weight": torch.zeros(1, 1, 5, 5, 5)}),
            "csa.conv.weight … (1, 1, 5, 5, 5)",
        ),
        (
            broken(authors(network().state_dict()), **{"sub_mean.weight": torch.ones(3)}),
            "sub_mean.weight … (3,) … (3, 3, 1, 1)",
        ),
        (
            broken(authors(network().state_dict()), **{"sub_mean.bias": torch.tensor(1.0)}),
            "sub_mean.bias … () … (3,)",
        ),
        (
            broken(authors(network().state_dict()), **{"add_mean.bias": torch.full((3,), torch.nan)}),
            "add_mean.bias",
        ),
        (broken(authors(network(channels=1).state_dict())), "conv_first … 1 input channels"),
        (moved(authors(network().state_dict()), "body.2.", "body.77."), "Missing: body.2. … Unexpected: body.77"),
        (moved(authors(network().state_dict()), "body.0.body.2.", "body.0.body.9."), "Unexpected: body.0.body.9"),
    ],
)
def test_wrong_files_get_one_line_errors(tmp_path, content: object, message: str) -> None:
    path = save(content, tmp_path / "wrong.pth")
    with pytest.raises(UserError) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    for part in message.split(" … "):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


class RunsCode:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code ran')",))


def test_damaged_and_dangerous_files(tmp_path) -> None:
    good = save(network().state_dict(), tmp_path / "good.pth").read_bytes()
    files = {
        "cut.pth": good[: len(good) // 2],
        "empty.pth": b"",
        "text.pth": b"not a checkpoint\n",
        "evil_old.pth": pickle.dumps(RunsCode(), protocol=2),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    save({"params": RunsCode()}, tmp_path / "evil.pth")
    for name in (*files, "evil.pth"):
        with pytest.raises(UserError) as caught:
            load_model(tmp_path / name)
        wanted = "would run code" if name.startswith("evil") else "is damaged"
        assert name in str(caught.value)
        assert wanted in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"no such checkpoint: .*absent\.pth"):
        load_model(tmp_path / "absent.pth")


@pytest.mark.parametrize("form", ["HAN", "authors' HAN", "RCAN", "authors' RCAN"])
def test_warm_start_from_another_scale(tmp_path, form: str) -> None:
    source, net = network(2, seed=1), network(4, seed=2)
    state = backbone(source) if "RCAN" in form else source.state_dict()
    path = save(authors(state) if "authors" in form else {"params": state}, tmp_path / "x2.pt")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    report = warm_start(net, read_checkpoint(path))
    is_taken = {key: not key.startswith(("upsample.", "conv_last.")) for key in before}
    if "RCAN" in form:
        is_taken = {key: taken and not key.startswith(OF_HAN) for key, taken in is_taken.items()}
    assert sorted(report.taken) == sorted(key for key, taken in is_taken.items() if taken)
    assert sorted(report.fresh) == sorted(key for key, taken in is_taken.items() if not taken)
    assert {key.split(".")[0] for key in report.unused} == {"upsample", "conv_last"}
    for key, value in net.state_dict().items():
        assert torch.equal(value, source.state_dict()[key] if is_taken[key] else before[key])
    assert "loaded: conv_first (2), body (36)" in report.summary
    assert "upsample (4)" in report.summary.split("newly initialised")[1]


def test_warm_start_from_the_same_scale_loads_every_matching_weight(tmp_path) -> None:
    source, net = network(2, seed=1), network(2, seed=2, lam_form="cosine", fusion="sum")
    report = warm_start(net, read_checkpoint(save(source.state_dict(), tmp_path / "x2.pth")))
    assert report.fresh == ["lam.log_temperature"]
    assert {key.split(".")[0] for key in report.unused} == {"conv_fuse"}


def test_warm_start_refuses_another_backbone(tmp_path) -> None:
    path = save(network(num_block=1).state_dict(), tmp_path / "other.pth")
    net = network()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(UserError, match=r"another backbone.* 16 weights of the network and 0 "):
        warm_start(net, read_checkpoint(path))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(("option", "value"), [("img_range", 1.0), ("rgb_mean", [0.1, 0.2, 0.3]), ("res_scale", 0.5)])
@pytest.mark.parametrize("form", ["HAN", "RCAN"])
def test_warm_start_refuses_another_normalisation(tmp_path, form: str, option: str, value: object) -> None:
    """With another normalisation, the backbone would get other inputs. A file without options is accepted."""
    network_g = {"type": form, "num_in_ch": 3, "num_out_ch": 3, "upscale": 2, **SMALL}
    state = network().state_dict() if form == "HAN" else backbone(network())
    path = save({"params": state, "network_g": {**network_g, option: value}}, tmp_path / "x2.pth")
    with pytest.raises(UserError, match=f"{option} is .* Set network_g"):
        warm_start(network(4), read_checkpoint(path), network_g | {"upscale": 4})
    warm_start(network(4, **{option: value}), read_checkpoint(path), {**network_g, "upscale": 4, option: value})
    warm_start(network(4), read_checkpoint(save(state, tmp_path / "bare.pth")), network_g | {"upscale": 4})


def test_warm_start_refuses_another_mean_shift(tmp_path) -> None:
    state = authors(network().state_dict())
    state["sub_mean.bias"] = state["sub_mean.bias"] + 3
    network_g = {"num_in_ch": 3, "num_out_ch": 3, "upscale": 4, **SMALL}
    with pytest.raises(UserError, match=r"rgb_mean is .* in the file, None in network_g"):
        warm_start(network(4), read_checkpoint(save(state, tmp_path / "x2.pt")), network_g)


def test_strict_loading_accepts_equivalent_options(tmp_path) -> None:
    """Options are equal if squeeze factors give equal shapes, or if the default mean of grey images is written out."""
    settings = {"num_feat": 8, "num_group": 1, "num_block": 1}
    net = HAN(1, 1, upscale=2, squeeze_factor=3, **settings)  # the factors 3 and 4 both give 2 channels
    bare = read_checkpoint(save(net.state_dict(), tmp_path / "bare.pth"))
    stated = {"type": "HAN", "num_in_ch": 1, "num_out_ch": 1, "upscale": 2, "squeeze_factor": 3, **settings}
    load_strict(net, bare, stated)
    content = {"params": net.state_dict(), "network_g": {**stated, "rgb_mean": [sum(DIV2K_RGB_MEAN) / 3]}}
    load_strict(net, read_checkpoint(save(content, tmp_path / "stated.pth")), stated)
    with pytest.raises(UserError, match="squeeze_factor is 3 in the file, 8 in network_g"):
        load_strict(net, read_checkpoint(tmp_path / "stated.pth"), {**stated, "squeeze_factor": 8})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upscale": 4}, "upscale is 2 in the file, 4 in network_g"),
        ({"lam_form": "paper"}, "lam_form is released in the file, paper in network_g"),
        ({"rgb_mean": [0.5, 0.5, 0.5]}, "rgb_mean is None in the file"),
    ],
)
def test_strict_loading_compares_options(tmp_path, options: dict, message: str) -> None:
    network_g = {"type": "HAN", "num_in_ch": 3, "num_out_ch": 3, "upscale": 2, **SMALL}
    path = save({"params": network().state_dict(), "network_g": network_g}, tmp_path / "net.pth")
    wanted = network_g | options
    net = HAN(**{key: value for key, value in wanted.items() if key != "type"})
    with pytest.raises(UserError, match=message):
        load_strict(net, read_checkpoint(path), wanted)
    load_strict(network(seed=3), read_checkpoint(path), network_g)
