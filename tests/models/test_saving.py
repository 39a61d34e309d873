"""Files are written whole or not at all, also when the system refuses; real refusals, by a limit on file sizes."""

import errno
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from han_arch.errors import UserError
from han_arch.models.saving import save_atomically, told


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may grow beyond 100 kB; Python turns the signal for that into an error."""
    if sys.platform == "win32":
        pytest.skip("Windows has no limit on file sizes")
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_whole_or_not_at_all(tmp_path: Path, small_files: None) -> None:
    path = tmp_path / "net.pth"
    save_atomically({"params": torch.ones(10)}, path)
    with pytest.raises(UserError, match=r"net.pth could not be written: File too large; .* --auto_resume"):
        save_atomically({"params": torch.zeros(100_000)}, path)
    assert [one.name for one in tmp_path.iterdir()] == ["net.pth"]
    assert torch.equal(torch.load(path, weights_only=True)["params"], torch.ones(10))


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be written: No such file"):
        save_atomically({}, tmp_path / "gone" / "net.pth")


def test_errors_of_other_kinds_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), told(tmp_path):
        raise RuntimeError("shapes")
    with pytest.raises(FileNotFoundError), told(tmp_path, no_room_only=True):
        (tmp_path / "gone.png").read_bytes()
    with pytest.raises(UserError, match="No space"), told(tmp_path, no_room_only=True):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(AttributeError), told(tmp_path):
        save_atomically(lambda: 0, tmp_path / "x")  # what cannot be pickled is a mistake of the program
    assert not list(tmp_path.iterdir())
