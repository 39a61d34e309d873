"""`basicsr upscale`: paths of output files, errors before work starts, exit statuses, standard input and output."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from known_engines import photo
from PIL import Image

import han_arch
from han_arch.cli import main
from han_arch.inference.plan import Plan


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with photos/a.png, photos/b.jpg, photos/below/c.png and other files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "below" / ".hidden").mkdir(parents=True)
    for seed, name in enumerate(["a.png", "b.jpg", "below/c.png", "below/.hidden/d.png", ".e.png"]):
        Image.fromarray(photo(12, 17, seed=seed)).save(tmp_path / "photos" / name)
    (tmp_path / "upper").mkdir()
    Image.fromarray(photo(5, 5)).save(tmp_path / "upper" / "A.png")
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    return tmp_path


def run(tiny_checkpoint: Path, *words: str) -> int:
    return main(["upscale", *words, "--model", str(tiny_checkpoint)])


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("format", [None, "webp"])
def test_folder_and_all_below(format: str | None, photos: Path, tiny_checkpoint: Path) -> None:
    assert run(tiny_checkpoint, "photos", "-o", "large", *(["--format", format] if format else [])) == 0
    names = {"a.png", "b.jpg", "below/c.png"}
    assert files(photos / "large") == ({str(Path(n).with_suffix(".webp")) for n in names} if format else names)
    assert {size(photos / "large" / name) for name in files(photos / "large")} == {(34, 24)}


def test_results_inside_the_folder_are_no_sources(photos: Path, tiny_checkpoint: Path) -> None:
    assert run(tiny_checkpoint, "photos", "-o", "photos/large") == 0
    assert run(tiny_checkpoint, "photos", "-o", "photos/large", "--overwrite") == 0
    assert files(photos / "photos" / "large") == {"a.png", "b.jpg", "below/c.png"}


def test_patterns_and_single_names(photos: Path, tiny_checkpoint: Path) -> None:
    assert run(tiny_checkpoint, "photos/**/*.png", "-o", "found") == 0
    assert files(photos / "found") == {"a.png", "c.png"}
    assert run(tiny_checkpoint, "photos/a.png", "-o", "new/name.webp") == 0
    with Image.open(photos / "new" / "name.webp") as image:
        assert (image.format, image.size) == ("WEBP", (34, 24))
    assert run(tiny_checkpoint, "photos/a.png", "-o", "photos", "--suffix", "_x2") == 0
    assert size(photos / "photos" / "a_x2.png") == (34, 24)


def test_name_with_a_pattern_s_letters_is_a_name(photos: Path, tiny_checkpoint: Path) -> None:
    Image.fromarray(photo(4, 4)).save(photos / "scan[1].png")
    assert run(tiny_checkpoint, "scan[1].png", "-o", "out") == 0
    assert files(photos / "out") == {"scan[1].png"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.png", "-o", "out"], "no such file or folder: gone.png"),
        (["*.gone", "-o", "out"], "no such file or folder: *.gone"),
        (["photos/below/.hidden", "photos", "-o", "x.png"], "images to one file (x.png)"),
        (["photos/a.png", "photos/below/../a.png", "-o", "out"], "would both become"),
        (["photos/a.png", "upper/A.png", "-o", "out"], "would both become out/A.png"),
        (["photos/a.png", "-o", "photos"], "photos/a.png would replace a source"),
        (["photos/notes.txt", "-o", "photos/notes.txt"], "photos/notes.txt is a file; pass a folder"),
        (["photos/a.png", "-o", "out", "--memory", "lots"], "--memory must be a number"),
        (["photos/a.png", "-o", "out", "--quality", "0"], "--quality must be 1 to 100"),
        (["photos/a.png", "-o", "out", "--png-level", "10"], "--png-level must be 0 to 9"),
        (["photos/a.png", "-o", "out", "--suffix", "../x"], "--suffix must be part of a file name"),
        (
            ["photos/a.png", "-o", "out", "--scale", "4"],
            "--scale 4 does not fit the network tiny.pth, which upscales by 2",
        ),
        (["photos/a.png", "-o", "out", "--device", "gpu"], "device must be one of auto, cuda"),
        (["photos/a.png", "-o", "-", "--compare"], "do not pass --compare"),
        (["photos/a.png", "-o", "out", "--winograd"], "multiples of 16 channels, but tiny.pth has none"),
        (
            ["photos/a.png", "-o", "out", "--winograd", "--dtype", "bf16"],
            "needs precision fp32; got bf16",
        ),
        (
            ["photos/a.png", "-o", "out", "--winograd", "--runtime", "onnx"],
            "--winograd works only with --runtime torch",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_before_work_starts(
    words: list[str], message: str, photos: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(photos)
    assert run(tiny_checkpoint, *words) == 2
    assert message in capsys.readouterr().err
    assert files(photos) == before


def test_empty_folder(photos: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "empty").mkdir()
    assert run(tiny_checkpoint, "empty", "-o", "out") == 2
    assert "no images in empty" in capsys.readouterr().err


def test_missing_model(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upscale", "photos", "-o", "out", "--model", "gone.pth"]) == 2
    assert "gone.pth" in capsys.readouterr().err
    assert not (photos / "out").exists()


def test_nothing_is_overwritten_without_the_flag(
    photos: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "out" / "below").mkdir(parents=True)
    (photos / "out" / "below" / "c.png").write_text("mine")
    assert run(tiny_checkpoint, "photos", "-o", "out") == 2
    assert "out/below/c.png would be overwritten" in capsys.readouterr().err
    assert files(photos / "out") == {"below/c.png"}
    assert run(tiny_checkpoint, "photos", "-o", "out", "--skip-existing") == 0
    assert files(photos / "out") == {"a.png", "b.jpg", "below/c.png"}
    assert (photos / "out" / "below" / "c.png").read_text() == "mine"
    assert run(tiny_checkpoint, "photos", "-o", "out", "--overwrite") == 0
    assert size(photos / "out" / "below" / "c.png") == (34, 24)
    assert run(tiny_checkpoint, "photos", "-o", "out", "--skip-existing") == 0
    assert "exist already" in capsys.readouterr().out


def test_a_file_that_appears_during_the_work_stays(
    photos: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*args: object, **options: object) -> None:
        (photos / "out" / "a.png").write_text("mine")

    monkeypatch.setattr(Image.Image, "save", meanwhile)
    assert run(tiny_checkpoint, "photos/a.png", "-o", "out/") == 1
    assert (photos / "out" / "a.png").read_text() == "mine"
    assert files(photos / "out") == {"a.png"}


def test_the_plan_is_printed_and_python_gives_the_same_pixels(
    photos: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Upscale in tiles, because of a small memory limit, and as a complete image."""
    pixels = photo(260, 300)
    Image.fromarray(pixels).save(photos / "scan.png")
    for budget in ("665M", "2G"):
        assert run(tiny_checkpoint, "scan.png", "-o", f"{budget}.png", "--memory", budget) == 0
        printed = capsys.readouterr().out
        assert f"scan.png 300x260 -> {budget}.png 600x520: " in printed
        assert ("tiles-" if budget == "665M" else "full (") in printed
        assert "MB, limit 665 MB" in printed or "MB, limit 2.0 GB" in printed
        with Image.open(photos / f"{budget}.png") as image:
            written = np.asarray(image)
            plan = str(image.info["Software"]).split("plan=")[1].split(";")[0]
        np.testing.assert_array_equal(written, han_arch.upscale(pixels, tiny_checkpoint, memory=budget))
        if budget == "665M":
            kind, tile, overlap = plan.split("-")
            followed = Plan(kind, int(tile), int(overlap))
            np.testing.assert_array_equal(written, han_arch.upscale(pixels, tiny_checkpoint, plan=followed))


def test_winograd(photos: Path, winograd_compiler: None) -> None:
    """With Winograd's algorithm, pixels are equal up to rounding, from the command and in Python."""
    pixels = photo(40, 50)
    Image.fromarray(pixels).save(photos / "scan.png")
    results = []
    for words in ([], ["--winograd"]):
        assert main(["upscale", "scan.png", "-o", "large.png", "--scale", "2", "--overwrite", *words]) == 0
        results.append(np.asarray(Image.open(photos / "large.png")))
        found = han_arch.upscale(pixels, "han-s-x2", winograd=bool(words))
        np.testing.assert_array_equal(results[-1], found)
    difference = np.abs(results[0].astype(int) - results[1])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001
    exact = [han_arch.upscale(pixels / 255, "han-s-x2", winograd=fast) for fast in (False, True)]
    assert 0 < np.abs(exact[0] - exact[1]).max() < 1e-3 / 255
    net = han_arch.load_model("han-s-x2")
    han_arch.use_winograd(net)
    np.testing.assert_array_equal(han_arch.upscale(pixels / 255, net), exact[1])
    np.testing.assert_array_equal(han_arch.upscale(pixels / 255, net, winograd=True), exact[1])


def test_comparison(photos: Path, tiny_checkpoint: Path) -> None:
    assert run(tiny_checkpoint, "photos/a.png", "-o", "out", "--compare", "--self-ensemble") == 0
    with Image.open(photos / "out" / "a_compare.png") as image:
        halves = np.hsplit(np.asarray(image), 2)
    with Image.open(photos / "photos" / "a.png") as image:
        bicubic = np.asarray(image.resize((34, 24), Image.Resampling.BICUBIC)).astype(float)
    with Image.open(photos / "out" / "a.png") as image:
        np.testing.assert_array_equal(halves[1], np.asarray(image))
    assert np.abs(halves[0] - bicubic).mean() < 4  # OpenCV's bicubic interpolation uses another parameter than Pillow's
    assert run(tiny_checkpoint, "photos/b.jpg", "-o", "out", "--compare") == 0
    (photos / "out" / "a.png").unlink()
    assert run(tiny_checkpoint, "photos/a.png", "-o", "out", "--compare") == 2  # the comparison file still exists


def test_standard_input_and_output(
    photos: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Replace the standard streams in this Python process; test_upscale_docs.py uses a real pipe."""
    source = (photos / "photos" / "a.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(source)))
    assert run(tiny_checkpoint, "-", "-o", "-", "--format", "tiff") == 0
    printed = capsysbinary.readouterr()
    with Image.open(io.BytesIO(printed.out)) as image:
        assert (image.format, image.size) == ("TIFF", (34, 24))
    assert b"standard input 17x12 -> standard output 34x24: full" in printed.err


def test_damaged_standard_input(
    photos: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    source = (photos / "photos" / "a.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(source[:200])))
    assert run(tiny_checkpoint, "-", "-o", "-") == 1
    printed = capsysbinary.readouterr()
    assert printed.out == b""
    assert b"basicsr upscale: standard input: damaged or incomplete" in printed.err


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from Linux's /proc")
def test_twenty_four_megapixels_within_two_gigabytes(photos: Path, tiny_checkpoint: Path) -> None:
    """The peak memory of the command is at most the limit plus the output image of 12000 x 8000 x 3 bytes."""
    enlarged = np.kron(photo(400, 600), np.ones((10, 10, 1), np.uint8))
    Image.fromarray(enlarged).save(photos / "scan.jpg", quality=90)
    code = (
        "import resource, sys; from han_arch.cli import main; status = main(sys.argv[1:]);"
        "print('peak', 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(status)"
    )
    words = ["upscale", "scan.jpg", "-o", "large.png", "--png-level", "1", "--model", str(tiny_checkpoint)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert size(photos / "large.png") == (12000, 8000)
    assert int(done.stdout.split()[-1]) <= 2 * 10**9 + 12000 * 8000 * 3
