"""Mutate the bytes of one format, guided by the branches of han_arch that they reach (atheris, libFuzzer).

The other kinds of input damage files blindly. Here, an input that reaches new code is kept and mutated further.
Only functions that read bytes are called, because this takes thousands of inputs a second.

`python tests/fuzzing/guided.py FORMAT FILE` repeats a finding. Other arguments are those of libFuzzer.
"""

import contextlib
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
LONGEST, MEMORY = 30, 1600  # seconds of one input, and megabytes of the process
if __name__ == "__main__":  # instead of this folder, whose http.py is not the one of Python
    sys.path[:1] = [str(TESTS), str(TESTS.parent)]

Call = Callable[[bytes], object]


def _options(place: Path) -> Call:
    read = import_module("han_arch.opt.read")
    path = place / "options.yml"

    def call(data: bytes) -> None:
        path.write_bytes(data)
        read.parse(read.dump(read.read(path)), "the options, written and read again")

    return call


def _weights(place: Path) -> Call:
    read, recognise = import_module("han_arch.zoo.read"), import_module("han_arch.zoo.recognise")
    path = place / "net.pth"

    def call(data: bytes) -> None:
        path.write_bytes(data)
        if read.is_safetensors(path):
            read.read_header(path)
        recognise.read_checkpoint(path)

    return call


def _exif(place: Path) -> Call:
    exif = import_module("han_arch.images.exif")

    def call(data: bytes) -> None:
        with contextlib.suppress(ValueError):  # data without a header of EXIF data
            tags = exif.read_tags(data)
            for limit in (0, 200, 60_000):
                less, _ = exif.reduced(tags, limit)
                if exif.read_tags(exif.packed(less)) != less:
                    raise AssertionError("written EXIF data differ when they are read again")

    return call


def _image(place: Path) -> Call:
    read = import_module("han_arch.images.read")
    metadata = import_module("han_arch.images.metadata")

    def call(data: bytes) -> None:
        with contextlib.suppress(read.ImageError):
            picture = read.read_picture(data, max_pixels=100_000)
            for name in ("png", "jpeg", "webp", "tiff"):
                metadata.fitted(picture, name, picture.pixels.nbytes)
        with contextlib.suppress(read.ImageError):
            if min(read.read_header(io.BytesIO(data), max_pixels=100_000).shape[:2]):
                read.decode_image(data)

    return call


def _zip(place: Path) -> Call:
    unpack = import_module("han_arch.unpack")
    archive, target = place / "archive.zip", place / "deep" / "set"

    def call(data: bytes) -> None:
        archive.write_bytes(data)
        try:
            unpack.unpack_zip(archive, target, 100_000)
        finally:
            shutil.rmtree(place / "deep", ignore_errors=True)
            if (names := os.listdir(place)) != [archive.name]:
                raise AssertionError(f"outside the target: {names}")

    return call


def _image_seeds(rng: random.Random, *starts: bytes) -> Iterable[bytes]:
    files = import_module("fuzzing.images").valid_files()
    return [data for _, data in files if data.startswith(starts)]


def _drawn(kind: str, count: int, rng: random.Random) -> Iterable[bytes]:
    """Return inputs of a kind of scripts/fuzz.py, the small ones."""
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            data = import_module(f"fuzzing.{kind}").hostile(rng, Path(folder)).read_bytes()
        if len(data) < 20_000:
            yield data


# Format -> (maker of the function that reads it, its first inputs).
FORMATS: dict[str, tuple[Callable[[Path], Call], Callable[[random.Random], Iterable[bytes]]]] = {
    "options": (_options, lambda rng: _drawn("options", 100, rng)),
    "checkpoints": (_weights, lambda rng: _drawn("checkpoints", 100, rng)),
    "exif": (_exif, lambda rng: [import_module("fuzzing.images").tags(rng) for _ in range(100)]),
    "png": (_image, lambda rng: _image_seeds(rng, b"\x89PNG")),
    "tiff": (_image, lambda rng: _image_seeds(rng, b"II", b"MM")),
    "jpeg": (_image, lambda rng: _image_seeds(rng, b"\xff\xd8", b"RIFF")),
    "zip": (_zip, lambda rng: _drawn("archives", 100, rng)),
}


def guide(formats: list[str], seconds: float, seed: int, out: Path) -> int:
    """Mutate each format for an equal part of the time, or until its first finding; return 1 if there is one."""
    if find_spec("atheris") is None:
        print("SKIPPED: atheris is not installed. It has wheels for Linux on x86-64 with Python 3.11 to 3.13.")
        return 0
    found = 0
    for name in formats:
        kept = out / f"guided-{name}"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        options = [f"-max_total_time={max(1, round(seconds / len(formats)))}", f"-seed={seed + 1}",
                   f"-artifact_prefix={kept}{os.sep}"]  # fmt: skip
        with (kept / "log.txt").open("wb") as log, tempfile.TemporaryDirectory(prefix="fuzz_") as folder:
            command = [sys.executable, __file__, name, *options]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": folder}
            status = subprocess.run(command, stdout=log, stderr=log, env=environment)
        lines = (kept / "log.txt").read_text("utf-8", "replace").splitlines()
        print(f"{name:12} {next((line for line in reversed(lines) if line.startswith('Done')), '')}", flush=True)
        if status.returncode:
            found += 1
            print(f"FINDING {name}: exit status {status.returncode}; see {kept}")
    print(f"FAILED: {found} findings" if found else "PASSED: no traceback, no crash, no hang")
    return 1 if found else 0


def main(name: str, *arguments: str) -> None:
    """Run libFuzzer on one format. It ends this process."""
    import atheris

    # Only han_arch guides the mutation. The libraries are imported first, so that they are not instrumented.
    for library in ("torch", "numpy", "PIL.Image", "cv2", "yaml", "tifffile", "safetensors.torch"):
        import_module(library)
    with atheris.instrument_imports(include=["han_arch"]):
        refused: type[Exception] = import_module("han_arch.errors").UserError
        maker, seeds = FORMATS[name]
        place = Path(tempfile.mkdtemp(prefix="fuzz_guided_"))
        (place / "work").mkdir()
        call = maker(place / "work")
    warnings.simplefilter("ignore")

    def one_input(data: bytes) -> None:
        with contextlib.suppress(refused):
            call(data)

    words: list[Any] = [sys.argv[0], f"-timeout={LONGEST}", f"-rss_limit_mb={MEMORY}", "-max_len=20000", *arguments]
    if all(word.startswith("-") for word in arguments):
        corpus = place / "corpus"
        corpus.mkdir()
        for number, data in enumerate(seeds(random.Random(0))):
            (corpus / str(number)).write_bytes(data)
        words.append(str(corpus))
    atheris.Setup(words, one_input, enable_python_coverage=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
