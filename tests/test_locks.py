"""Two processes never do the same work, and a killed process leaves nothing behind."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from han_arch import locks
from han_arch.errors import UserError
from han_arch.files import HALF_WRITTEN, clear_leftovers, new_folder, replacing, working_folder, write
from han_arch.locks import held

posix = pytest.mark.skipif(sys.platform == "win32", reason="the test needs POSIX signals, links or forks")


@contextmanager
def process(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run code in another process. The block starts when the code has printed a line."""
    head = "import os, sys, time\nfrom pathlib import Path\nfrom han_arch import files, locks\n"
    with subprocess.Popen([sys.executable, "-c", head + code], cwd=folder, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            yield child
        finally:
            child.kill()


HOLD = "with locks.held(Path('run'), 'the run'): print('held', flush=True); time.sleep(60)"


@posix
def test_second_process_names_the_first_and_a_kill_frees_the_lock(tmp_path: Path) -> None:
    with process(HOLD, tmp_path) as first:
        with pytest.raises(UserError) as refused, held(tmp_path / "run", "the run of run"):
            pass
        for part in ("the run of run", f"process {first.pid} on ", ", since 20", "wait", "choose another name"):
            assert part in str(refused.value)
        first.send_signal(signal.SIGKILL)
        first.wait()
        with held(tmp_path / "run", "the run"):
            pass
    assert list(tmp_path.iterdir()) == []


@posix
def test_children_do_not_keep_the_lock_of_a_killed_parent(tmp_path: Path) -> None:
    code = "with locks.held(Path('run'), 'the run'):\n if not os.fork(): print(flush=True)\n time.sleep(20)"
    with process(code, tmp_path) as first:
        first.kill()
        first.wait()
        with held(tmp_path / "run", "the run"):
            assert (tmp_path / ".run.lock").exists()
    assert list(tmp_path.iterdir()) == []


@posix
def test_child_that_leaves_the_block_does_not_free_the_lock(tmp_path: Path) -> None:
    try:
        with held(tmp_path / "run", "the run"):
            child = os.fork()
            if child == 0:
                raise SystemExit
            os.waitpid(child, 0)
            with pytest.raises(UserError), held(tmp_path / "run", "the run"):
                pass
    except SystemExit:
        os._exit(0)


def test_one_lock_for_links_to_one_folder_and_for_long_names(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    with held(tmp_path / "run", "the run"), pytest.raises(UserError), held(tmp_path / "link", "the run"):
        pass
    with held(tmp_path / "new" / ("n" * 255), "x"), held(tmp_path / "new" / ("n" * 254), "x"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"run", "link"}, "empty new folders go too"


def test_waiting_for_the_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "with locks.held(Path('run'), 'x'): print(flush=True); time.sleep(0.5)"
    with process(code, tmp_path) as first, held(tmp_path / "run", "the download", wait=True):
        assert first.wait() == 0
    assert f"process {first.pid}" in capsys.readouterr().err


@posix
def test_lock_file_of_somebody_else_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".run.lock").symlink_to("victim")
    with pytest.raises(OSError, match=r"run\.lock"), held(tmp_path / "run", "the run"):
        pass
    (tmp_path / ".run.lock").unlink()
    os.mkfifo(tmp_path / ".run.lock")
    with pytest.raises(UserError, match="regular file"), held(tmp_path / "run", "the run"):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.skipif(sys.platform != "linux", reason="the test needs /proc, in which no file can be made")
def test_a_lock_file_that_cannot_be_made_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match=r"/proc/\.run\.lock"), held(Path("/proc/run"), "the run"):
        pass


@posix
def test_a_folder_without_write_permission_is_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: Path, flags: int, *more: int) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError, match=r"run\.lock"), held(tmp_path / "run", "the run"):
        pass


@posix
def test_file_system_without_locks(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    for _ in range(2):
        with held(tmp_path / "run", "the run"):
            write(tmp_path / "a.txt", "text")
    assert capsys.readouterr().err.count("has no locks") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_existing_folder_beside_which_nothing_can_be_written(tmp_path: Path, monkeypatch, capsys, number: int) -> None:
    """A finished data set on a read-only disk, or a link to a folder there, can be used; a new one is refused."""
    real_open = os.open

    def refuse(path: object, flags: int, *settings: object) -> int:
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number), path)
        return real_open(path, flags, *settings)

    monkeypatch.setattr(os, "open", refuse)
    (tmp_path / "old").mkdir()
    with pytest.raises(KeyError) as caught, held(tmp_path / "old", "the run"):
        raise KeyError
    assert caught.value.__context__ is None, "the message for an error depends on its context"
    assert capsys.readouterr().err.count(".old.lock") == 1
    with pytest.raises(OSError, match=os.strerror(number)), held(tmp_path / "new", "the run"):
        pass


INTERRUPTED = {
    "file": "with files.replacing(Path('a.pth')) as file: file.write(b'half'); print(flush=True); time.sleep(60)",
    "folder": """with files.new_folder(Path('out')) as folder:
    files.write(folder / 'a.txt', 'half'); print(flush=True); time.sleep(60)""",
    "files of a folder": """with files.working_folder(Path('n' * 99)) as folder, files.replacing(folder / 'b') as file:
    print(flush=True); time.sleep(60)""",
}


@posix
@pytest.mark.parametrize("code", INTERRUPTED.values(), ids=INTERRUPTED)
def test_leftovers_go_when_their_process_is_gone(code: str, tmp_path: Path) -> None:
    (tmp_path / ".mine.part").write_text("not ours")
    with process(code, tmp_path) as writer:
        clear_leftovers(tmp_path)
        assert len(list(tmp_path.glob(HALF_WRITTEN))) == 2, "a living process keeps its files"
        writer.kill()
        writer.wait()
    assert len(list(tmp_path.glob(HALF_WRITTEN))) == 2
    with working_folder(tmp_path / "other"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".mine.part"]


@posix
def test_next_process_cleans_the_folder_it_writes_to(tmp_path: Path) -> None:
    with process(INTERRUPTED["file"], tmp_path):
        pass
    assert len(list(tmp_path.glob(HALF_WRITTEN))) == 1
    with process("files.write(Path('new.txt'), 'text')", tmp_path) as writer:
        assert writer.wait() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["new.txt"]


@posix
def test_leftovers_of_other_computers_and_links_stay(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as file:
        name = Path(file.name).name
    other = f"{name[:3]}{'1' if name[3] == '0' else '0'}{name[4:]}"
    link = name[:-6] + ("1.part" if name[-6] == "0" else "0.part")
    (tmp_path / other).write_text("written on another computer")
    (tmp_path / link).symlink_to(tmp_path / "a")
    clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a", other, link}


def test_many_processes_write_and_clean_one_folder(tmp_path: Path) -> None:
    """Each process cleans the folder again and again while the others write to it."""
    code = """
for index in range(150):
    files.clear_leftovers(Path('.'))
    files.write(Path('same.txt'), f'{index}')
    with files.new_folder(Path(f'{sys.argv[1]}-{index}')) as folder: files.write(folder / 'a', 'b')
"""
    head = "import sys\nfrom pathlib import Path\nfrom han_arch import files\n"
    children = [subprocess.Popen([sys.executable, "-c", head + code, str(n)], cwd=tmp_path) for n in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert len(list(tmp_path.glob("*-*/a"))) == 450
    assert not list(tmp_path.glob(HALF_WRITTEN))


def test_new_folder_refuses_a_used_name(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), new_folder(tmp_path):
        pass
