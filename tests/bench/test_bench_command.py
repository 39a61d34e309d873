"""`basicsr bench` on tiny networks."""

import argparse
import csv
import re
import sys
from pathlib import Path

import pytest

from han_arch.bench.networks import NETWORKS
from han_arch.cli import main
from han_arch.commands.bench import configure

TITLES = {key: network.title for key, network in NETWORKS.items()}
TINY = ["--num_block", "1", "--num_feat", "8", "--lr_sizes", "8"]


def rows_of(printed: str) -> list[tuple[str, str]]:
    """Return the case and the network of each row of the table."""
    cells = [line.strip("| ").split(" | ") for line in printed.splitlines() if ", LR " in line and line[0] == "|"]
    return [(row[0], row[1]) for row in cells if row[0] != "network"]


def test_command(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "super_image", None)  # as if it were not installed
    sizes = [*TINY, "--memory_lr_size", "64", "--repeat", "2"]
    status = main(["bench", "--networks", "ours", "authors", "limit", *sizes, "--out", str(tmp_path / "new" / "out")])
    folder = tmp_path / "new" / "out"
    printed = capsys.readouterr().out
    assert status == 0
    assert printed == (folder / "bench.md").read_text("utf-8")
    assert f"Not measured: {TITLES['authors']}: super-image cannot be imported" in printed
    for case in ("inference, LR 8, float32", "inference, LR 8, bfloat16", "training step, batch 4, LR 48, bfloat16"):
        assert (case, TITLES["ours"]) in rows_of(printed)
    with (folder / "bench.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 * 2 * 2 + 1  # four cases, two networks, two rounds; one row of memory
    assert (folder / "bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_runtimes_are_rows_beside_the_networks(tmp_path, capsys) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed (pip install openvino)")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed (pip install {package})")
    words = ["--networks", "onnx", "openvino", "ours", *TINY, "--repeat", "1", "--cases", "inference"]
    assert main(["bench", *words, "--out", str(tmp_path)]) == 0
    assert rows_of(capsys.readouterr().out) == [
        ("inference, LR 8, float32", TITLES["ours"]),
        ("inference, LR 8, float32", TITLES["onnx"]),
        ("inference, LR 8, float32", TITLES["openvino"]),
        ("inference, LR 8, bfloat16", TITLES["ours"]),
        ("inference, LR 8, bfloat16", TITLES["openvino"]),  # ONNX Runtime has float32 only
    ]


def test_a_runtime_that_is_not_installed_is_named(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    words = ["--networks", "ours", "onnx", *TINY, "--repeat", "1", "--cases", "inference"]
    assert main(["bench", *words, "--out", str(tmp_path)]) == 0
    assert f"Not measured: {TITLES['onnx']}: onnx cannot be imported" in capsys.readouterr().out


def test_the_authors_code_is_also_trained_with_freed_memory_kept(tmp_path, capsys) -> None:
    pytest.importorskip("super_image", reason="super-image is not installed (pip install super-image)")
    words = ["--networks", "ours", "authors", "authors-memory-kept", *TINY, "--repeat", "1", "--dtypes", "float32"]
    assert main(["bench", *words, "--cases", "inference", "training", "--out", str(tmp_path)]) == 0
    assert rows_of(capsys.readouterr().out) == [
        ("inference, LR 8, float32", TITLES["ours"]),
        ("inference, LR 8, float32", TITLES["authors"]),
        ("training step, batch 4, LR 48, float32", TITLES["ours"]),
        ("training step, batch 4, LR 48, float32", TITLES["authors"]),
        ("training step, batch 4, LR 48, float32", TITLES["authors-memory-kept"]),
    ]


def test_winograd_is_measured_in_float32(tmp_path, capsys, winograd_compiler: None) -> None:
    sizes = ["--num_block", "1", "--num_feat", "16", "--lr_sizes", "8", "--memory_lr_size", "64", "--repeat", "1"]
    words = ["--networks", "ours", "ours-winograd", "limit", "limit-winograd", *sizes]
    assert main(["bench", *words, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    lines = [line.strip("| ").split(" | ") for line in printed.splitlines() if f"| {TITLES['ours-winograd']} |" in line]
    assert [line[0] for line in lines] == [
        "inference, LR 8, float32", "training step, batch 4, LR 48, float32", "peak memory, LR 64, float32",
    ]  # fmt: skip
    assert [line[-1].endswith("%") for line in lines] == [True, True, False]
    limits = [case for case, network in rows_of(printed) if network == TITLES["limit-winograd"]]
    assert limits == ["inference, LR 8, float32", "training step, batch 4, LR 48, float32"]


def test_the_commands_of_the_page_are_valid(repository: Path) -> None:
    text = (repository / "docs" / "performance.md").read_text("utf-8")
    commands = re.findall(r"^`?basicsr (bench[^`#\n]*)", text, re.MULTILINE)
    assert len(commands) > 8
    parser = argparse.ArgumentParser()
    configure(parser)
    for command in commands:
        args = parser.parse_args(command.split()[1:])
        assert set(args.networks) <= set(NETWORKS)


def test_mistakes(capsys, tmp_path) -> None:
    for words, part in (
        (["--repeat", "0"], "--repeat"),
        (["--num_feat", "3"], "--num_feat"),
        (["--lr_sizes", "8", "0"], "sizes"),
    ):
        assert main(["bench", *words, "--out", str(tmp_path)]) == 2
        assert part in capsys.readouterr().err
