"""Files are written completely or not at all, also if the system refuses to write. A size limit causes the refusals."""

import errno
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from han_arch.errors import UserError
from han_arch.files import clear_refusal, replacing, write


@pytest.fixture
def small_files() -> Iterator[None]:
    """Limit the files of this process to 100 kB. A larger write raises OSError."""
    if sys.platform == "win32":
        pytest.skip("Windows cannot limit the size of files")
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save(content: object, path: Path) -> None:
    with clear_refusal(path, "make room"), replacing(path, durable=True) as file:
        torch.save(content, file)


def test_refused_write_keeps_the_old_file(tmp_path: Path, small_files: None) -> None:
    path = tmp_path / "net.pth"
    save({"params": torch.ones(10)}, path)
    with pytest.raises(UserError, match=r"net.pth: File too large; make room"):
        save({"params": torch.zeros(100_000)}, path)
    with pytest.raises(OSError, match="File too large"):
        write(path, bytes(200_000))
    assert [one.name for one in tmp_path.iterdir()] == ["net.pth"]
    assert torch.equal(torch.load(path, weights_only=True)["params"], torch.ones(10))


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        save({}, tmp_path / "gone" / "net.pth")


def test_advice_fits_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for refused, fitting in ((tmp_path / "file" / "net.pth", "another path"), (tmp_path, "name of a file")):
        with pytest.raises(UserError, match=fitting) as raised, clear_refusal(refused, "free disk space"):
            refused.open("wb")
        assert "disk space" not in str(raised.value)


def test_errors_of_other_kinds_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), clear_refusal(tmp_path, ""):
        raise RuntimeError("shapes")
    with pytest.raises(FileNotFoundError), clear_refusal(tmp_path, "", no_room_only=True):
        (tmp_path / "gone.png").read_bytes()
    with pytest.raises(UserError, match="No space"), clear_refusal(tmp_path, "", no_room_only=True):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(AttributeError):
        save(lambda: 0, tmp_path / "x")  # a programming error: the object cannot be pickled
    assert not list(tmp_path.iterdir())
