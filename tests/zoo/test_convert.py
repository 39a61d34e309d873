"""`basicsr zoo convert` reads every known form of checkpoint and writes a file with all construction options."""

from pathlib import Path

import pytest
import torch
import yaml
from authors_form import to_authors_names
from safetensors import safe_open

from han_arch import HAN, cli, load_model
from han_arch.files import hash_file
from han_arch.zoo import entry, store
from han_arch.zoo.read import read_header

SIZE = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_group": 2, "num_block": 2, "squeeze_factor": 4,
        "upscale": 2}  # fmt: skip
OF_HAN = ("lam.", "csam.", "conv_lam.", "conv_fuse.")


@pytest.fixture
def net() -> HAN:
    torch.manual_seed(0)
    return HAN(**SIZE).eval()


def convert(*words: object) -> int:
    return cli.main(["zoo", "convert", *map(str, words)])


def assert_same_network(path: Path, net: HAN) -> None:
    lq = torch.rand(1, 3, 7, 6)
    with torch.no_grad():
        torch.testing.assert_close(load_model(path)(lq), net(lq), rtol=0, atol=1e-5)


def test_reads_the_authors_form(net: HAN, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(to_authors_names(net.state_dict(), 2, 2), tmp_path / "BIX2.pt")
    assert convert(tmp_path / "BIX2.pt", tmp_path / "out.safetensors") == 0
    assert "HAN in the authors' format" in capsys.readouterr().out
    assert_same_network(tmp_path / "out.safetensors", net)
    header = read_header(tmp_path / "out.safetensors")
    assert header["provenance"]["converted_from"] == "BIX2.pt"
    assert header["network_g"]["rgb_mean"] == [0.4488, 0.4371, 0.404]
    assert cli.main(["zoo", "verify", str(tmp_path / "out.safetensors")]) == 0


def test_a_zoo_file_keeps_its_licence_and_origin(tmp_path: Path) -> None:
    source = store.present(entry.find("han-s-x2"))
    assert source is not None
    assert convert(source, f"{tmp_path}/half/", "--half") == 0
    assert convert(source, tmp_path / "out.pth") == 0
    (half,) = (tmp_path / "half").iterdir()
    assert half.name == f"han-s-x2-{hash_file(half)[:8]}.safetensors"
    for provenance in (
        read_header(half)["provenance"],
        torch.load(tmp_path / "out.pth", weights_only=True)["provenance"],
    ):
        assert provenance["converted_from"] == source.name
        assert "non-commercial" in provenance["licence"]
        assert "non-commercial" in provenance["data_terms"]
        assert provenance["recipe"] == "train_HAN-S_x2.yml"
    assert_same_network(tmp_path / "out.pth", load_model("han-s-x2"))


def test_in_a_folder_the_name_ends_in_the_hash(net: HAN, tmp_path: Path) -> None:
    torch.save({"params": net.state_dict()}, tmp_path / "mine.pth")
    assert convert(tmp_path / "mine.pth", f"{tmp_path}/new/") == 0
    (path,) = (tmp_path / "new").iterdir()
    assert path.name == f"mine-{hash_file(path)[:8]}.safetensors"
    assert_same_network(path, net)


def test_writes_basicsrs_form_and_float16(net: HAN, tmp_path: Path) -> None:
    torch.save(net.state_dict(), tmp_path / "mine.pth")
    assert convert(tmp_path / "mine.pth", tmp_path / "out.pth") == 0
    assert torch.load(tmp_path / "out.pth", weights_only=True)["network_g"]["type"] == "HAN"
    assert_same_network(tmp_path / "out.pth", net)
    assert convert(tmp_path / "mine.pth", tmp_path / "half.safetensors", "--half") == 0
    with safe_open(tmp_path / "half.safetensors", framework="pt") as file:
        assert file.get_tensor("conv_first.weight").dtype == torch.float16


def test_option_file_replaces_assumed_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    network_g = {**SIZE, "img_range": 1.0, "lam_form": "paper"}
    net = HAN(**network_g).eval()
    torch.save({"params": net.state_dict()}, tmp_path / "mine.pth")
    assert convert(tmp_path / "mine.pth", tmp_path / "guessed.pth") == 0
    assert "values: res_scale 1, img_range 255.0" in capsys.readouterr().out
    (tmp_path / "run.yml").write_text(yaml.safe_dump({"network_g": {"type": "HAN", **network_g}}))
    assert convert(tmp_path / "mine.pth", tmp_path / "given.pth", "-opt", tmp_path / "run.yml") == 0
    assert "assumed" not in capsys.readouterr().out
    assert_same_network(tmp_path / "given.pth", net)
    (tmp_path / "run.yml").write_text(yaml.safe_dump({"network_g": {"type": "HAN", **network_g, "num_feat": 16}}))
    assert convert(tmp_path / "mine.pth", tmp_path / "wrong.pth", "-opt", tmp_path / "run.yml") == 2
    assert not (tmp_path / "wrong.pth").exists()


@pytest.mark.usefixtures("basicsr")
@pytest.mark.parametrize("form", ["authors", "basicsr"])
def test_rcan_is_written_in_basicsrs_form(form: str, net: HAN, tmp_path: Path) -> None:
    from basicsr.archs.rcan_arch import RCAN

    backbone = {key: value for key, value in net.state_dict().items() if not key.startswith(OF_HAN)}
    state = to_authors_names(backbone, 2, 2) if form == "authors" else backbone
    torch.save(state, tmp_path / "RCAN_BIX2.pt")
    assert convert(tmp_path / "RCAN_BIX2.pt", tmp_path / "out.pth") == 0
    content = torch.load(tmp_path / "out.pth", weights_only=True)
    network_g = dict(content["network_g"])
    assert network_g.pop("type") == "RCAN"
    RCAN(**network_g).load_state_dict(content["params"])
    assert torch.equal(content["params"]["conv_last.weight"], backbone["conv_last.weight"])


@pytest.mark.parametrize("form", ["authors", "basicsr"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "missing (conv_last.bias)"),
        ("too many", "more"),
        ("misshapen", "another shape (conv_last.bias)"),
    ],
)
def test_incomplete_rcan_is_refused(
    form: str, fault: str, message: str, net: HAN, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {key: value for key, value in net.state_dict().items() if not key.startswith(OF_HAN)}
    if fault == "missing":
        if form == "authors":  # the conversion of the mean shift needs conv_last.bias
            message = "mean shift"
        del state["conv_last.bias"]
    elif fault == "misshapen":
        if form == "authors":
            message = "3 output channels"
        state["conv_last.bias"] = torch.zeros(5)
    state = to_authors_names(state, 2, 2) if form == "authors" else state
    if fault == "too many":
        state["more"] = torch.zeros(1)
    torch.save(state, tmp_path / "RCAN_BIX2.pt")
    assert convert(tmp_path / "RCAN_BIX2.pt", tmp_path / "out.pth") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()


def test_rcan_must_fit_the_option_file(net: HAN, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(
        {key: value for key, value in net.state_dict().items() if not key.startswith(OF_HAN)}, tmp_path / "R.pth"
    )
    for num_feat, status in ((8, 0), (16, 2)):
        network_g = {"type": "RCAN", **SIZE, "num_feat": num_feat}
        (tmp_path / "run.yml").write_text(yaml.safe_dump({"network_g": network_g}))
        assert convert(tmp_path / "R.pth", tmp_path / f"{num_feat}.pth", "-opt", tmp_path / "run.yml") == status
    assert "have another shape" in capsys.readouterr().err
    assert not (tmp_path / "16.pth").exists()


def test_impossible_options_get_one_line(net: HAN, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, wrong in enumerate(({"num_feat": "8"}, {"lam_form": "x"}, {"typo": 1})):
        content = {"params": net.state_dict(), "network_g": {"type": "HAN", **SIZE, **wrong}}
        torch.save(content, tmp_path / f"{number}.pth")
        assert convert(tmp_path / f"{number}.pth", tmp_path / "out.pth") == 2
        error = capsys.readouterr().err
        assert f"{number}.pth" in error
        assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [("taken.pth", "taken.pth already exists"), ("out.onnx", "out.onnx")],
)
def test_mistakes_get_one_line(
    target: str, message: str, net: HAN, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(net.state_dict(), tmp_path / "mine.pth")
    (tmp_path / "taken.pth").write_text("mine")
    assert convert(tmp_path / "mine.pth", tmp_path / target) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "taken.pth").read_text() == "mine"
    assert convert(tmp_path / "none.pth", tmp_path / "out.pth") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"mine.pth", "taken.pth"}
