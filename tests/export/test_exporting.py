"""Exported files give PyTorch's pixels at any size and contain metadata. A failed export leaves no file."""

import dataclasses
import hashlib
import json
import re

import pytest
import torch
from exports import need, save_network

from han_arch import load_model
from han_arch.cli import main
from han_arch.errors import UserError
from han_arch.export.runtime import load_runtime
from han_arch.export.targets import TARGETS, picture
from han_arch.export.write import STEPS, Check, check, export, output_path, weights_hash

SIZES = [(1, 3, 1, 1), (1, 3, 5, 64), (3, 3, 31, 7), (1, 3, 12, 14)]


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_same_pixels_at_any_size(exported, checkpoint, target: str) -> None:
    run, net = load_runtime(exported(target), target), load_model(checkpoint)
    for size in SIZES:
        lq = torch.rand(size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(run(lq), net(lq), rtol=0, atol=1e-5)


def test_torch_program_runs_without_our_classes(exported, checkpoint) -> None:
    run, net = torch.export.load(exported("torch")).module(), load_model(checkpoint)
    for size in SIZES:
        lq = torch.rand(size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(run(lq), net(lq), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"channels": 1, "upscale": 3, "lam_form": "cosine"},
        {"upscale": 4, "lam_form": "paper", "fusion": "sum", "num_csam": 2},
        {"layer_attention": "LAM", "upscale": 8, "img_range": 1.0},
    ],
)
def test_every_form_of_the_network(tmp_path, settings: dict) -> None:
    """`export` raises an error if a pixel differs on one of its three test images."""
    need("onnx")
    model = save_network(tmp_path / "net.pth", num_group=2, **settings)
    path = tmp_path / "net.onnx"
    steps: list[str] = []
    checks = export(load_model(model), str(model), "onnx", path, done=steps.append)
    assert len(steps) == STEPS
    assert [result.size[0] for result in checks] == [1, 2, 1]
    assert max(result.difference for result in checks) < 1e-2
    run = load_runtime(path, "onnx")
    assert (run.scale, run.num_in_ch) == (settings["upscale"], settings.get("channels", 3))


def test_onnx_metadata(exported, checkpoint) -> None:
    path = exported("onnx")
    import onnx

    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert_metadata(said, checkpoint)
    sides = [axis.dim_param or axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", 3, "height", "width"]
    assert [entry.name for entry in (*model.graph.input, *model.graph.output)] == ["lq", "output"]


def test_openvino_metadata_and_float32_weights(exported, checkpoint) -> None:
    run = load_runtime(exported("openvino"), "openvino")
    assert_metadata(dict(run.metadata), checkpoint)
    parameters = sum(parameter.numel() for parameter in load_model(checkpoint).parameters())
    assert exported("openvino").with_suffix(".bin").stat().st_size > 4 * parameters * 0.95


def test_torch_metadata(exported, checkpoint) -> None:
    files = {"han_arch.json": ""}
    torch.export.load(exported("torch"), extra_files=files)
    assert_metadata(json.loads(files["han_arch.json"]), checkpoint)


def assert_metadata(said: dict[str, str], checkpoint) -> None:
    assert (said["scale"], said["num_in_ch"], said["source"]) == ("2", "3", "small.pth")
    assert said["source_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert said["weights_sha256"] == weights_hash(load_model(checkpoint))
    assert "RGB in [0, 1]" in said["input"]
    assert "not clamped" in said["output"]


def test_weights_hash_depends_on_the_weights_alone(checkpoint, tmp_path) -> None:
    net = load_model(checkpoint)
    torch.save(net.state_dict(), tmp_path / "bare.pt")
    assert weights_hash(load_model(tmp_path / "bare.pt")) == weights_hash(net)
    with torch.no_grad():
        net.csam.bias.add_(1e-6)
    assert weights_hash(net) != weights_hash(load_model(checkpoint))


@pytest.mark.parametrize("fault", [0.02 / 255, float("nan")])
def test_other_pixels_are_refused(tmp_path, checkpoint, monkeypatch, fault: float) -> None:
    """The fault is a difference of 0.02 on the 0..255 scale, or NaN. The existing file stays."""
    path = tmp_path / "net.pt2"
    path.write_text("the one before")
    net = load_model(checkpoint)
    faulty = dataclasses.replace(
        TARGETS["torch"],
        write=lambda net, path, metadata: path.write_text("new"),
        open=lambda path, *_: (lambda lq: net(lq) + fault, {"scale": "2", "num_in_ch": "3"}),
    )
    monkeypatch.setitem(TARGETS, "torch", faulty)
    with pytest.raises(UserError, match=r"removed, because its output differs from PyTorch's by more than 0\.01"):
        export(net, "net", "torch", path, overwrite=True)
    assert path.read_text() == "the one before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_appears_during_the_work_stays(tmp_path, checkpoint, monkeypatch) -> None:
    net, path = load_model(checkpoint), tmp_path / "new" / "net.pt2"

    def write_while_others_do(net, written, metadata) -> None:
        written.write_text("new")
        with pytest.raises(UserError, match=r"the export of .*net\.pt2 is in progress: process \d+"):
            export(net, "net", "torch", path)
        path.write_text("theirs")

    slow = dataclasses.replace(
        TARGETS["torch"],
        write=write_while_others_do,
        open=lambda path, *_: (net, {"scale": "2", "num_in_ch": "3"}),
    )
    monkeypatch.setitem(TARGETS, "torch", slow)
    with pytest.raises(FileExistsError, match=r"net\.pt2 already exists; pass --overwrite"):
        export(net, "net", "torch", path)
    assert path.read_text() == "theirs"
    assert list(path.parent.iterdir()) == [path]


def test_a_new_target_is_one_record(tmp_path, checkpoint, monkeypatch, capsys) -> None:
    """One record in TARGETS is enough for the command, for `export` and for `load_runtime`."""
    net = load_model(checkpoint)
    copied = dataclasses.replace(
        TARGETS["torch"],
        name="toy",
        suffixes=(".toy",),
        write=lambda net, path, metadata: path.write_text(json.dumps(metadata)),
        open=lambda path, *_: (net, json.loads(path.read_text())),
    )
    monkeypatch.setitem(TARGETS, "toy", copied)
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(checkpoint), "--to", "toy"]) == 0
    assert "small.toy: x2" in capsys.readouterr().out
    assert json.loads((tmp_path / "small.toy").read_text())["scale"] == "2"


@pytest.mark.parametrize("target", [target for target in TARGETS.values() if target.packages], ids=lambda t: t.name)
def test_extras_install_what_a_target_needs(target, repository) -> None:
    (listed,) = re.findall(rf'"{target.extra}": \[(.*?)\]', (repository / "setup.py").read_text())
    assert set(re.findall(r'"(.*?)"', listed)) == set(target.packages)


def test_another_shape_fails_the_check(checkpoint) -> None:
    result = check(load_model(checkpoint), lambda lq: torch.zeros(1, 3, 4, 4), (1, 6, 6))
    assert not result.passed
    assert not Check((1, 2, 3), 0.011).passed
    assert picture(load_model(checkpoint), (2, 9, 5)).shape == (2, 3, 9, 5)


def test_output_path(tmp_path) -> None:
    (tmp_path / "net.v2.pth").touch()
    source = str(tmp_path / "net.v2.pth")
    assert str(output_path(source, "onnx", None)) == "net.v2.onnx"
    assert output_path(source, "openvino", tmp_path) == tmp_path / "net.v2.xml"
    assert str(output_path("han-s-x4", "torch", None)) == "han-s-x4.pt2"
    with pytest.raises(UserError, match=r"openvino.*\.xml.*a\.onnx"):
        output_path(source, "openvino", tmp_path.__class__("a.onnx"))
