"""`basicsr bench` on tiny networks, and its arithmetic."""

import csv
import importlib.util
import sys
import time

import pytest
import torch

from han_arch.bench import networks
from han_arch.bench.measure import Row, alternate, quotient, ratio_to_authors
from han_arch.bench.networks import (
    AUTHORS,
    AUTHORS_MEMORY_KEPT,
    LIMIT,
    LIMIT_WINOGRAD,
    ONNX_NAME,
    OPENVINO_NAME,
    OURS,
    OURS_WINOGRAD,
    BareConvolutions,
    Size,
    build,
    build_ours,
)
from han_arch.bench.report import markdown
from han_arch.cli import main
from han_arch.commands import bench
from han_arch.speed.winograd import WinogradConv2d

TINY = Size(num_block=1, num_feat=8)


def test_rows_alternate_after_one_round_to_warm_up() -> None:
    order: list[str] = []
    rows = alternate("case", {name: lambda n=name: order.append(n) for name in "ab"}, repeat=3)
    assert "".join(order) == "abababab"
    assert [(row.network, len(row.values)) for row in rows] == [("a", 3), ("b", 3)]


def test_what_comes_before_a_run_is_not_timed() -> None:
    order: list[str] = []
    runs = {name: lambda n=name: order.append(n) for name in "ab"}
    (row, _) = alternate("case", runs, repeat=2, before={"a": lambda: time.sleep(0.2), "b": lambda: order.append("-")})
    assert "".join(order) == "a-ba-b"
    assert max(row.values) < 0.1


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that is half as fast in one round, and in another for one network alone."""
    ours, theirs = Row("case", OURS, (1.0, 2.0, 1.0)), Row("case", AUTHORS, (1.5, 3.0, 9.0))
    assert quotient(theirs, ours) == ratio_to_authors(ours, [ours, theirs]) == 1.5  # their medians would give 3
    assert quotient(Row("other", AUTHORS, theirs.values), ours) == 3.0


def test_table_gives_medians_ratios_and_the_share_of_the_limit() -> None:
    rows = [
        Row("case", OURS, (2.0, 1.0, 4.0)),
        Row("case", AUTHORS, (3.0, 3.0, 6.0)),
        Row("case", LIMIT, (1.5,)),
        Row("memory", OURS, (40.0,), "MB"),
        Row("memory", AUTHORS, (100.0,), "MB"),
        Row("memory", "EDSR", (), "MB", "not installed"),
    ]
    assert [ratio_to_authors(row, rows) for row in rows] == [1.5, 1.0, 2.0, 0.4, 1.0, None]
    lines = markdown(rows).splitlines()
    assert lines[2] == f"| case | {OURS} | 2.000 s | 1.000 to 4.000 | 1.50x as fast |  | 75 % |"
    assert lines[5] == f"| memory | {OURS} | 40 MB |  | 0.40x of its memory |  |  |"
    assert "skipped: not installed" in lines[7]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bare_convolutions_are_those_of_the_network(scale: int) -> None:
    """Counted by PyTorch's FLOP counter: only what is no 3x3 convolution is missing."""
    from torch.utils.flop_counter import FlopCounterMode

    net = build_ours(Size(num_block=1, num_feat=8, scale=scale)).eval()
    net.lam = net.csam = None
    counts = []
    for module in (net, BareConvolutions(net)):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            module(torch.rand(1, 3, 12, 12))
        counts.append(counter.get_flop_counts()["Global"][torch.ops.aten.convolution])
    assert counts[0] == counts[1]


def test_both_hans_have_the_same_weights() -> None:
    pytest.importorskip("super_image", reason="super-image is not installed (pip install super-image)")
    ours, theirs = build(OURS, TINY), build(AUTHORS, TINY)
    lq = torch.rand(1, 3, 12, 10)
    with torch.no_grad():
        difference = 255 * ours.net(lq) - theirs.net(theirs.input_range * lq)
    assert difference.abs().max() < 1e-3


def test_command(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "super_image", None)  # as if it were not installed
    sizes = ["--num_block", "1", "--num_feat", "8", "--lr_sizes", "8", "--memory_lr_size", "64", "--repeat", "2"]
    status = main(["bench", "--networks", "ours", "authors", "limit", *sizes, "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert status == 0
    assert printed == (tmp_path / "bench.md").read_text("utf-8")
    assert f"Not measured: {AUTHORS}: super-image cannot be imported" in printed
    for case in ("inference, LR 8, float32", "inference, LR 8, bfloat16", "training step, batch 4, LR 48, bfloat16"):
        assert f"| {case} | {OURS} |" in printed
    with (tmp_path / "bench.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 * 2 * 2 + 1  # four cases, two networks, two rounds; one of memory
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_runtimes_stand_beside_the_networks(tmp_path, capsys) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed (pip install openvino)")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed (pip install {package})")
    sizes = ["--num_block", "1", "--num_feat", "8", "--lr_sizes", "8", "--repeat", "1", "--cases", "inference"]
    assert main(["bench", "--networks", "ours", "onnx", "openvino", *sizes, "--out", str(tmp_path)]) == 0
    rows = [line.split(" | ")[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("| inference")]
    assert [(case.split()[-1], network) for case, network in rows] == [
        ("float32", OURS),
        ("float32", ONNX_NAME),
        ("float32", OPENVINO_NAME),
        ("bfloat16", OURS),
        ("bfloat16", OPENVINO_NAME),  # ONNX Runtime has float32 only
    ]


def test_bfloat16_is_compared_with_the_authors_code_in_both_types() -> None:
    rows = [
        Row("inference, LR 8, float32", AUTHORS, (6.0,)),
        Row("inference, LR 8, bfloat16", AUTHORS, (4.0,)),
        Row("inference, LR 8, bfloat16", OPENVINO_NAME, (2.0,)),
    ]
    openvino = f"| inference, LR 8, bfloat16 | {OPENVINO_NAME} | 2.000 s |  |"
    assert markdown(rows).splitlines()[-1] == f"{openvino} 2.00x as fast | 3.00x as fast |  |"
    assert markdown(rows[1:]).splitlines()[-1] == f"{openvino} 2.00x as fast |  |  |"
    assert markdown(rows).splitlines()[2].endswith("| 1.00x as fast |  |  |")  # float32 needs no second comparison


def test_a_runtime_that_is_not_installed_is_named(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    sizes = ["--num_block", "1", "--num_feat", "8", "--lr_sizes", "8", "--repeat", "1", "--cases", "inference"]
    assert main(["bench", "--networks", "ours", "onnx", *sizes, "--out", str(tmp_path)]) == 0
    assert f"Not measured: {ONNX_NAME}: onnx cannot be imported" in capsys.readouterr().out


def test_the_authors_code_is_trained_with_freed_memory_kept_too(tmp_path, capsys) -> None:
    pytest.importorskip("super_image", reason="super-image is not installed (pip install super-image)")
    sizes = ["--num_block", "1", "--num_feat", "8", "--lr_sizes", "8", "--repeat", "1", "--dtypes", "float32"]
    words = ["bench", "--networks", "ours", "authors", "authors-memory-kept", *sizes, "--out", str(tmp_path)]
    assert main([*words, "--cases", "inference", "training"]) == 0
    rows = [line.split(" | ")[:2] for line in capsys.readouterr().out.splitlines() if "LR 8" in line or "LR 48" in line]
    assert [(case.split()[1], network) for case, network in rows] == [
        ("inference,", OURS),
        ("inference,", AUTHORS),
        ("training", OURS),
        ("training", AUTHORS),
        ("training", AUTHORS_MEMORY_KEPT),
    ]


def test_winograd_is_measured_in_float32(tmp_path, capsys, winograd_compiler: None) -> None:
    sizes = ["--num_block", "1", "--num_feat", "16", "--lr_sizes", "8", "--memory_lr_size", "64", "--repeat", "1"]
    words = ["--networks", "ours", "ours-winograd", "limit", "limit-winograd", *sizes]
    assert main(["bench", *words, "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if f"| {OURS_WINOGRAD} |" in line]
    assert [row[0] for row in rows] == [
        "inference, LR 8, float32", "training step, batch 4, LR 48, float32", "peak memory, LR 64, float32",
    ]  # fmt: skip
    assert [row[-1].endswith("%") for row in rows] == [True, True, False]
    assert not [line for line in lines if f"| {LIMIT_WINOGRAD} |" in line and ("bfloat16" in line or "memory" in line)]
    net = build(OURS_WINOGRAD, Size(num_block=1, num_feat=16)).copy()
    assert isinstance(net.body[0].conv, WinogradConv2d)


@pytest.mark.usefixtures("basicsr")
def test_peers_in_both_memory_formats_give_the_same_pixels_and_are_counted() -> None:
    """The counts by hand: weights times positions of every convolution of RCAN."""
    lq = torch.rand(1, 3, 12, 10)
    pairs = [(networks.RCAN_NAME, networks.RCAN_CHANNELS_LAST)]
    if importlib.util.find_spec("super_image"):
        pairs.append((AUTHORS, networks.AUTHORS_CHANNELS_LAST))
    for plain, channels_last in pairs:
        one, other = build(plain, TINY), build(channels_last, TINY)
        with torch.no_grad():
            torch.testing.assert_close(
                one.net.eval()(one.input_range * lq), other.net.eval()(other.input_range * lq), rtol=1e-4, atol=1e-3
            )
    peers = [build(name, TINY) for name in (networks.RCAN_NAME, networks.EDSR_NAME, networks.RCAN_CHANNELS_LAST)]
    lines = bench._counts(peers).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| RCAN (BasicSR)", "| EDSR (BasicSR)"]
    rcan = peers[0].net
    macs = 0
    for name, module in rcan.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            scale = 4 if name == "conv_last" else 2 if name == "upsample.2" else 1
            positions = 1 if ".attention." in name else (96 * scale) ** 2
            macs += module.weight.numel() * positions * (4 if ".attention." in name else 1)  # counted at LR 48, times 4
    parameters = sum(parameter.numel() for parameter in rcan.parameters())
    assert lines[0] == f"| RCAN (BasicSR) | {parameters:,} | {macs / 1e9:.1f} G |"


def test_mistakes(capsys, tmp_path) -> None:
    assert main(["bench", "--repeat", "0", "--out", str(tmp_path)]) == 2
    assert "--repeat" in capsys.readouterr().err
    assert set(networks.__dict__) >= {"OURS", "AUTHORS"}
