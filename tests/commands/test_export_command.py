"""Test the `basicsr export` command."""

import sys
from pathlib import Path

import pytest
from exports import need, save_network

from han_arch.cli import main


@pytest.fixture
def checkpoint(tmp_path_factory) -> Path:
    return save_network(tmp_path_factory.mktemp("model") / "small.pth")


@pytest.mark.slow
def test_writes_and_prints_the_comparisons(tmp_path, checkpoint, capsys, monkeypatch) -> None:
    need("openvino")
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(checkpoint), "--to", "openvino"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("small.xml: x2, ")
    for line, part in zip(lines[1:4], ("batch 1, 17 x 23", "batch 2, 21 x 30", "batch 1, 40 x 11"), strict=True):
        assert part in line
    assert all("largest difference" in line for line in lines[1:4])
    assert "bfloat16: PSNR" in lines[4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.bin", "small.xml"]


def test_existing_file_stays_without_overwrite(tmp_path, checkpoint, capsys) -> None:
    path = tmp_path / "small.pt2"
    path.write_text("precious")
    assert main(["export", str(checkpoint), "--to", "torch", "-o", str(path)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert "--overwrite" in error
    assert path.read_text() == "precious"


@pytest.mark.slow
def test_overwrite_replaces_the_file(tmp_path, checkpoint) -> None:
    path = tmp_path / "small.pt2"
    path.write_text("old")
    assert main(["export", str(checkpoint), "--to", "torch", "-o", str(path), "--overwrite"]) == 0
    assert path.read_bytes().startswith(b"PK")
    assert list(tmp_path.iterdir()) == [path]


def test_mistakes_are_one_line(tmp_path, checkpoint, capsys, monkeypatch) -> None:
    cases = [
        ([str(tmp_path / "none.pth"), "--to", "onnx"], ["none.pth"]),
        ([str(checkpoint), "--to", "onnx", "-o", "a.xml"], ["--to onnx", ".onnx", "a.xml"]),
        ([str(checkpoint), "--to", "torch", "-o", "/dev/null/a.pt2"], ["write /dev/null", "another folder"]),
    ]
    for arguments, parts in cases:
        assert main(["export", *arguments]) == 2
        error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(error) == 1
        assert all(part in error[0] for part in parts)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(checkpoint), "--to", "onnx"]) == 2
    error = capsys.readouterr().err
    assert "onnxscript" in error
    assert "pip install" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["export", "inspect"])
def test_help_shows_examples(word: str, capsys) -> None:
    with pytest.raises(SystemExit):
        main([word, "--help"])
    assert f"basicsr {word} " in capsys.readouterr().out.split("examples:")[1]
