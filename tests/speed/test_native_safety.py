"""No code of another user is loaded: the folders and the file of the compiled kernels are checked, then used opened."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from han_arch.speed.winograd import native

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the kernels are not compiled on Windows")
NOBODY = 65534
PLANTED = '__attribute__((constructor)) static void run(void) {{ FILE *f = fopen("{}", "w"); if (f) fclose(f); }}'


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, winograd_compiler: None) -> Path:
    """The compiled kernels, which the compiler of these tests copies."""
    path = tmp_path_factory.mktemp("built") / "winograd.so"
    command = [*native.find_compiler(), *native.OPTIONS, "-shared", str(native.SOURCE), "-o", str(path)]
    subprocess.run(command, check=True)
    return path


class Place:
    """A cache folder, a compiler that counts its runs, and a planted library that leaves a mark when it is loaded."""

    def __init__(self, folder: Path, built: Path) -> None:
        self.folder, self.cache, self.mark = folder, folder / "above" / "cache", folder / "mark"
        self.kernels, self.runs = self.cache / f"kernels-{os.getuid()}", folder / "runs"
        self.compiler, self.planted = folder / "cc", folder / "planted.so"
        copy = f'for last; do :; done; echo run >> "{self.runs}"; cp "{built}" "$last"'
        self.compiler.write_text(f'#!/bin/sh\ncase " $* " in *" -E "*) echo macros;; *) {copy};; esac\n')
        self.compiler.chmod(0o755)
        source = folder / "planted.c"
        source.write_text("#include <stdio.h>\n" + PLANTED.format(self.mark))
        command = [*native.find_compiler(), "-shared", "-fPIC", str(source), "-o", str(self.planted)]
        subprocess.run(command, check=True)

    def load(self) -> ctypes.CDLL:
        """Load the kernels as a new process does. Check that they are the right ones."""
        native.library.cache_clear()
        library = native.library()
        assert not self.mark.exists(), "the planted library was loaded"
        assert library.winograd_convolution.restype is ctypes.c_int
        return library

    @property
    def compilations(self) -> int:
        return len(self.runs.read_text().splitlines()) if self.runs.exists() else 0


@pytest.fixture
def place(tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path, built)
    monkeypatch.setenv("HAN_ARCH_CACHE", str(made.cache))
    monkeypatch.setenv("CC", str(made.compiler))
    yield made
    native.library.cache_clear()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o000])
def test_new_folders_are_safe_with_any_umask(place: Place, umask: int) -> None:
    old = os.umask(umask)
    try:
        place.load()
        place.load()
    finally:
        os.umask(old)
    assert place.compilations == 1
    assert len(list(place.kernels.iterdir())) == 1


@pytest.mark.parametrize(
    ("owner", "members", "compilations"), [("me", [], 1), ("me", ["me"], 1), ("me", ["me", "other"], 2), ("all", [], 2)]
)
def test_a_group_may_write_if_it_is_the_users_own(
    place: Place, owner: str, members: list[str], compilations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many systems give each user a group, and let it write to his files. It is his own if nobody else is in it."""
    import grp
    import pwd

    place.cache.mkdir(parents=True)
    place.cache.parent.chmod(0o775)
    if os.geteuid() == 0:
        os.chown(place.cache.parent, -1, 12345)
    monkeypatch.setattr(pwd, "getpwuid", lambda number: SimpleNamespace(pw_name="me"))
    monkeypatch.setattr(grp, "getgrgid", lambda number: SimpleNamespace(gr_name=owner, gr_mem=members))
    place.load()
    place.load()
    assert place.compilations == compilations


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder to root's group"
)
def test_roots_group_may_write(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In containers, users without a name use folders of root's group."""
    import pwd

    place.cache.mkdir(parents=True)
    place.cache.parent.chmod(0o775)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    place.load()
    place.load()
    assert place.compilations == 1


def test_a_link_to_the_cache_of_a_safe_place_is_followed(place: Place) -> None:
    (place.folder / "real").mkdir()
    place.cache.parent.mkdir()
    place.cache.symlink_to(place.folder / "real", target_is_directory=True)
    place.load()
    place.load()
    assert place.compilations == 1


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "writable", "damaged", "folder", "pipe"])
def test_a_planted_file_is_replaced(place: Place, kind: str) -> None:
    place.load()
    (kept,) = place.kernels.iterdir()
    kept.unlink()
    if kind == "symbolic link":
        kept.symlink_to(place.planted)
    elif kind == "hard link":
        os.link(place.planted, kept)
    elif kind == "writable":
        shutil.copy(place.planted, kept)
        kept.chmod(0o777)
    elif kind == "damaged":
        kept.write_bytes(b"no library")
    elif kind == "folder":
        kept.mkdir()
    else:
        os.mkfifo(kept)
    before = place.planted.read_bytes()
    place.load()
    place.load()
    assert kind == "folder" or place.compilations == 2
    assert place.planted.read_bytes() == before
    assert kind == "folder" or kept.lstat().st_size > 10_000


@pytest.mark.parametrize("kind", ["writable", "linked"])
def test_an_unsafe_kernels_folder_is_not_used(place: Place, kind: str) -> None:
    place.load()
    (kept,) = place.kernels.iterdir()
    shutil.copy(place.planted, kept)
    if kind == "writable":
        place.kernels.chmod(0o777)
    else:
        place.kernels.rename(place.folder / "elsewhere")
        (place.folder / "elsewhere").chmod(0o777)
        place.kernels.symlink_to(place.folder / "elsewhere", target_is_directory=True)
    place.load()
    assert kept.read_bytes() == place.planted.read_bytes()


def test_a_parent_that_others_can_write_to(place: Place) -> None:
    place.load()
    (kept,) = place.kernels.iterdir()
    shutil.copy(place.planted, kept)  # as if others had exchanged the folder
    place.cache.parent.chmod(0o777)
    place.load()
    place.cache.parent.chmod(0o1777)  # sticky, like /tmp: nobody can exchange this user's folders
    kept.unlink()
    place.load()
    assert kept.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("owned", ["parent", "kernels", "file"])
def test_what_another_user_owns_is_not_loaded(place: Place, owned: str) -> None:
    place.load()
    (kept,) = place.kernels.iterdir()
    shutil.copy(place.planted, kept)
    os.chown({"parent": place.cache.parent, "kernels": place.kernels, "file": kept}[owned], NOBODY, NOBODY)
    place.load()
    assert place.compilations == 2
    if owned == "file":
        assert kept.stat().st_uid == os.getuid()


def test_an_exchange_between_check_and_load(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exchange the kernels folder at the last moment. The checked file is loaded, not the planted one."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("loads by path, which no other user can exchange after the check")
    place.load()
    load = ctypes.CDLL

    def exchanging(name: str) -> ctypes.CDLL:
        if place.kernels.exists() and not (place.folder / "gone").exists():
            (kept,) = place.kernels.iterdir()
            place.kernels.rename(place.folder / "gone")
            place.kernels.mkdir()
            shutil.copy(place.planted, kept)
        return load(name)

    monkeypatch.setattr(ctypes, "CDLL", exchanging)
    place.load()
    assert (place.folder / "gone").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_who_exchanges_a_parent_all_the_time(place: Place) -> None:
    """A second user owns the folder above the cache, and exchanges the cache while the kernels are loaded."""
    place.load()
    name, above = next(place.kernels.iterdir()).name, place.cache.parent
    shutil.rmtree(place.cache)
    own = above / "mine" / place.kernels.name
    own.mkdir(parents=True)
    shutil.copy(place.planted, own / name)
    for owned in (above, own.parent, own, own / name):
        os.chown(owned, NOBODY, NOBODY)
    script = "while :; do mv -T cache other; mv -T mine cache; mv -T cache mine; mv -T other cache; done"
    attacker = subprocess.Popen(
        ["sh", "-c", script], cwd=above, user=NOBODY, group=NOBODY, extra_groups=[], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(30):
            place.load()
    finally:
        attacker.kill()
        attacker.wait()
    assert not list(above.rglob("*.part"))
    assert [file.read_bytes() for file in above.rglob("*.so")] == [place.planted.read_bytes()]
