"""Tests of `basicsr zoo list`, `show` and `verify`: correct output, and every fault is printed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from releases import Made
from safetensors import safe_open
from safetensors.torch import save_file

from han_arch import cli
from han_arch.errors import UserError
from han_arch.files import CACHE_VARIABLE
from han_arch.release.verify import read_means
from han_arch.zoo import entry as table
from han_arch.zoo import store
from han_arch.zoo.entry import Entry


@pytest.fixture
def release(made: Made, tmp_path: Path) -> Path:
    """A copy of the release, which tests may damage."""
    shutil.copytree(made.release, tmp_path / "release")
    return tmp_path / "release"


@pytest.fixture
def shipped(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """The zoo entry of the release. The zoo's table contains it, and the package contains its file."""
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "weights")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "weights").mkdir()
    shutil.copyfile(made.release / made.entry.file, tmp_path / "weights" / made.entry.file)
    others = tuple(entry for entry in table.ENTRIES if entry.name != made.entry.name)
    monkeypatch.setattr(table, "ENTRIES", (*others, made.entry))
    return made.entry


def verify(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = cli.main(["zoo", "verify", *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err.splitlines()[-1] if printed.err else ""


def test_a_sound_release(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = verify(capsys, release)
    assert status == 0
    assert "14 files have the hash" in text
    assert "all its weights were loaded" in text
    assert text.endswith("all checks passed\n")


def test_faults_of_a_release_are_named(release: Path, made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    (release / "training.log").write_text("changed")
    (release / "train.csv").unlink()
    (release / "more.txt").touch()
    sums = (release / "SHA256SUMS").read_text()
    (release / "SHA256SUMS").write_text(sums + f"{'0' * 64}  ../outside\n")
    status, text, _ = verify(capsys, release)
    assert status == 1
    for line in (
        "the hash of training.log differs",
        "train.csv is in SHA256SUMS but not in the folder",
        "more.txt is in the folder but not in SHA256SUMS",
        "a SHA-256 and a file name; got 0000",
    ):
        assert f"WRONG: {line}" in text or line in text
    assert text.endswith("4 problems found\n")


def rewrite(source: Path, target: Path, **metadata: object) -> None:
    """Copy a weight file with changed metadata. The value None removes a key."""
    with safe_open(source, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        header = {**file.metadata(), **metadata}
    save_file(tensors, target, {key: value for key, value in header.items() if value is not None})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("hash", "begin with 00000000"),
        ("no network_g", "no network_g"),
        ("incomplete", "lacks img_range"),
        ("other network", "another shape"),
        ("normalisation", "normalisation"),
        ("cut", "is damaged"),
    ],
)
def test_faults_of_a_file_are_named(
    change: str, message: str, made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, path = made.release / made.entry.file, tmp_path / "net.safetensors"
    network_g = {"type": "HAN", **made.entry.arguments}
    if change == "hash":
        path = tmp_path / "net-00000000.safetensors"
        shutil.copyfile(source, path)
    elif change == "no network_g":
        rewrite(source, path, network_g=None)
    elif change == "incomplete":
        rewrite(source, path, network_g=json.dumps({k: v for k, v in network_g.items() if k != "img_range"}))
    elif change == "other network":
        rewrite(source, path, network_g=json.dumps({**network_g, "num_feat": 16}))
    elif change == "normalisation":
        rewrite(source, path, normalisation=json.dumps({"img_range": 1.0}))
    else:
        path.write_bytes(source.read_bytes()[:900])
    status, text, _ = verify(capsys, path)
    assert status == 1
    assert message in text


def test_an_entry_against_its_file_and_set5(
    shipped: Entry, made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text, _ = verify(capsys)
    assert (status, text.splitlines()[0]) == (0, "han-s-x4")
    status, text, _ = verify(capsys, "han-s-x4", "--measure", made.benchmarks)
    assert status == 0
    assert f"Set5: {shipped.expected[0].psnr:.4f} dB" in text
    wrong = replace(shipped.expected[0], psnr=shipped.expected[0].psnr + 0.02)
    monkeypatch.setattr(table, "ENTRIES", (replace(shipped, expected=(wrong, *shipped.expected[1:])),))
    status, text, _ = verify(capsys, "han-s-x4", "--measure", made.benchmarks)
    assert status == 1
    assert "WRONG: Set5:" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, f"must be {'0' * 64}, as in the zoo's table"),
        ({"size": 5}, "must have 5 bytes"),
        ({"parameters": 5}, "must have 5 parameters"),
        ({"arguments": "other"}, "lam_form is released in the file, paper in network_g"),
    ],
)
def test_a_wrong_table_is_caught(
    change: dict, message: str, shipped: Entry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "arguments" in change:
        change = {"arguments": {**shipped.arguments, "lam_form": "paper"}}
    monkeypatch.setattr(table, "ENTRIES", (replace(shipped, **change),))
    status, text, _ = verify(capsys, "han-s-x4")
    assert status == 1
    assert message in text


def test_a_release_against_an_entry(
    release: Path, shipped: Entry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text, _ = verify(capsys, release, "--against", "han-s-x4")
    assert status == 0
    assert text.count(", expected ") == 3
    worse = tuple(replace(expected, psnr=expected.psnr + 1) for expected in shipped.expected)
    monkeypatch.setattr(table, "ENTRIES", (replace(shipped, expected=worse),))
    status, text, _ = verify(capsys, release, "--against", "han-s-x4")
    assert status == 1
    assert text.count("WRONG: ") == 3


def test_another_training_may_round_differently_but_needs_every_set(
    release: Path, shipped: Entry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = tuple(replace(e, psnr=e.psnr + 0.04, dataset=name) for e, name in zip(
        shipped.expected, ("Set5", "Set14", "Urban100"), strict=True))  # fmt: skip
    monkeypatch.setattr(table, "ENTRIES", (replace(shipped, expected=worse),))
    status, text, _ = verify(capsys, release, "--against", "han-s-x4")
    assert status == 1
    assert [line for line in text.splitlines() if "WRONG" in line] == ["  WRONG: Urban100 was not measured"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("han-authors-bix2", "is not on this machine; download BIX2 from https://drive.google.com"),
        ("han-s-x44", "'han-s-x44'; did you mean han-s-x4?"),
        ("none.safetensors", "file or folder has the name none.safetensors"),
        (".", "does not contain SHA256SUMS"),
    ],
)
def test_mistakes_get_one_line(
    target: str, message: str, shipped: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    status, _, error = verify(capsys, target)
    assert status == 2
    assert message in error


@pytest.mark.parametrize("row", ["HAN,Set5,img_0.png,30.1", "HAN,Set5,img_0.png,30.1,high", "HAN,Set5,a,nan,0.9",
                                 "HAN,Set5,a,inf,1"])  # fmt: skip
def test_a_damaged_table_of_scores_gets_one_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "per_image.csv"
    path.write_text(f"model,set,image,psnr_db,ssim\n{row}\n")
    with pytest.raises(UserError, match="lacks a column or has a score that is not a finite number"):
        read_means(path)


@pytest.mark.usefixtures("shipped")
def test_only_a_release_is_compared_with_an_entry(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for target in ("han-s-x4", made.release / made.entry.file):
        status, _, error = verify(capsys, target, "--against", "han-s-x2")
        assert status == 2
        assert "--against needs a release folder" in error


def test_list_and_show(shipped: Entry, made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["zoo", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["han-s-x4"].endswith("in the package")
    assert f"{shipped.expected[0].psnr:.2f}  " in lines["han-s-x4"]
    assert "32.64*" in lines["han-authors-bix4"]  # the star marks scores that others measured
    assert cli.main(["zoo", "show", "han-s-x4"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert shipped.sha256 in text
    assert "data terms BSDS500 (UC Berkeley): non-commercial research" in text
    assert cli.main(["zoo", "show", "han-authors-bdx3"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "unknown: it was not published" in text
    assert "17cLcPCDLuBV5_5-ngd0vXIDp6rebIMG1" in text
    assert "no published results were found" in text
    assert cli.main(["zoo", "show", "han"]) == 2


def test_other_checkpoints_are_checked_too(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = verify(capsys, made.experiment / "models" / "net_g_latest.pth")
    assert status == 0
    assert "x4 network of" in text
