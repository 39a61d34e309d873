"""Files of every format, written and read again: pixel values, alpha, orientation, ICC profile, DPI and EXIF."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from known_engines import Repeat, photo, repeated
from PIL import Image, ImageCms

from han_arch.errors import UserError
from han_arch.images.formats import FORMATS, SUFFIXES, WRITTEN, ImageFormat, listed, written_format
from han_arch.images.picture import Picture
from han_arch.images.read import read_picture
from han_arch.images.write import WriteOptions
from han_arch.inference.files import UpscaleJob, UpscaleSettings, upscale_files

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = WriteOptions(lossless=True)


def encoded(picture: Picture, name: str, **options: int) -> bytes:
    file = io.BytesIO()
    height, width = picture.pixels.shape[:2]
    FORMATS[name].write(file, FORMATS[name].fit(picture, height, width), WriteOptions(**options), "test")
    return file.getvalue()


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def named(path: Path) -> ImageFormat:
    image_format = written_format(path)
    assert image_format is not None
    return image_format


def through_command(source: Path, target: Path) -> bytes:
    """Run `basicsr upscale` with a network that repeats every pixel 2 x 2 times; return the output file."""
    job = UpscaleJob(source, target, named(target))
    assert upscale_files([job], Repeat(), UpscaleSettings(LOSSLESS, 2 * 10**9, "2G")) == 0
    return target.read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("source", ["png", "tiff"])
@pytest.mark.parametrize("target", ["png", "tiff"])
def test_samples_stay_to_the_bit(source: str, target: str, channels: int, dtype: type, tmp_path: Path) -> None:
    pixels = photo(21, 34, channels, dtype)
    if channels in (2, 4):
        pixels[..., -1] = np.iinfo(dtype).max // 3  # a value that bicubic interpolation does not change
    profile = SRGB if channels > 2 else None
    before = Picture(pixels, profile, (300.0, 200.0))
    (tmp_path / f"in.{source}").write_bytes(encoded(before, source))
    data = through_command(tmp_path / f"in.{source}", tmp_path / f"out.{target}")
    after = read_picture(data)
    assert after.pixels.dtype == dtype
    assert after.pixels.shape == (42, 68, channels)
    assert np.abs(after.pixels.astype(int) - repeated(pixels)).max() <= (dtype is np.uint16)  # float32 luma
    assert after.icc == profile
    assert after.dpi == pytest.approx((300, 200), abs=0.02)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_as_opencv_reads_them(channels: int) -> None:
    pixels = photo(30, 50, channels, np.uint16)
    for name in ("png", "tiff"):
        read = cv2.imdecode(np.frombuffer(encoded(Picture(pixels), name), np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(read.reshape(pixels.shape)[..., ::-1], pixels)


def test_a_large_sixteen_bit_png_goes_band_by_band() -> None:
    pixels = photo(900, 1200, 4, np.uint16)
    data = encoded(Picture(pixels), "png", png_level=1)
    np.testing.assert_array_equal(read_picture(data).pixels, pixels)
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # Pillow checks every chunk of the file


@pytest.mark.parametrize("format", ["jpeg", "webp"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_lossy_formats(format: str, channels: int) -> None:
    if format == "jpeg" and channels in (2, 4):
        with pytest.raises(ValueError, match=r"jpeg.*alpha.*png"):
            encoded(Picture(photo(8, 8, channels)), format)
        return
    smooth = cv2.resize(photo(10, 10, channels), (80, 80), interpolation=cv2.INTER_CUBIC).reshape(80, 80, channels)
    after = read_picture(encoded(Picture(smooth, SRGB if channels > 2 else None, (72, 72)), format))
    expected = smooth if format == "jpeg" or channels > 2 else smooth[..., [0] * 3 + [1] * (channels == 2)]
    assert after.pixels.shape == expected.shape
    assert np.abs(after.pixels.astype(int) - expected).mean() < 3
    assert after.dpi == pytest.approx((72, 72))
    assert after.icc == (SRGB if channels > 2 else None)


def test_quality_is_passed_on() -> None:
    picture = Picture(photo(60, 60))
    for format in ("jpeg", "webp"):
        assert len(encoded(picture, format, quality=30)) < len(encoded(picture, format, quality=95))
    np.testing.assert_array_equal(read_picture(encoded(picture, "webp", lossless=True)).pixels, picture.pixels)
    assert len(encoded(picture, "png", png_level=9)) < len(encoded(picture, "png", png_level=0))


def test_sixteen_bits_into_eight() -> None:
    pixels = np.array([[[0], [128], [129], [257], [32768], [65535]]], np.uint16)
    fitted = FORMATS["jpeg"].fit(Picture(pixels), 1, 6)
    assert fitted.pixels.ravel().tolist() == [0, 0, 1, 1, 128, 255]
    (note,) = fitted.notes
    assert "16 bits" in note
    assert "jpeg" in note


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_orientation_is_applied_once(orientation: int, format: str, tmp_path: Path) -> None:
    """Compare with Pillow's own exif_transpose."""
    from PIL import ImageOps

    blocks = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3, 1) * 40, np.ones((16, 16, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    exif[0x8769] = {0x9003: "2026:01:02 03:04:05", 0xA002: 48}
    options: dict = {"lossless": True} if format == "webp" else {}
    source = tmp_path / f"in.{format}"
    source.write_bytes(saved(Image.fromarray(blocks), format, exif=exif.tobytes(), **options))
    with Image.open(source) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    data = through_command(source, tmp_path / "out.png")
    after = read_picture(data)
    np.testing.assert_array_equal(after.pixels, repeated(upright))
    with Image.open(io.BytesIO(data)) as image:
        found = image.getexif()
    assert found.get(0x0112, 1) == 1
    assert found[0x010F] == "Maker"
    assert found.get_ifd(0x8769) == {0x9003: "2026:01:02 03:04:05"}  # the source file's width is dropped


def test_dpi_turns_with_the_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.new("RGB", (6, 4)), "jpeg", exif=exif, dpi=(100, 200))
    assert read_picture(data).dpi == (200, 100)


def cmyk_profile() -> bytes:
    paths = [*Path("/usr/share/color/icc").rglob("*.icc")] if Path("/usr/share/color/icc").is_dir() else []
    for path in paths:
        if path.read_bytes()[16:20] == b"CMYK":
            return path.read_bytes()
    pytest.skip("no CMYK profile on this machine (/usr/share/color/icc)")


def test_cmyk_without_a_profile() -> None:
    image = Image.new("CMYK", (5, 4), (0, 255, 255, 0))
    for format in ("tiff", "jpeg"):
        after = read_picture(saved(image, format))
        assert np.abs(after.pixels.astype(int) - [255, 0, 0]).max() <= 3
        (note,) = after.notes
        assert "CMYK without ICC profile" in note
        assert after.icc is None


def test_cmyk_by_its_profile() -> None:
    data = saved(Image.new("CMYK", (5, 4), (0, 255, 255, 0)), "tiff", icc_profile=cmyk_profile())
    after = read_picture(data)
    (note,) = after.notes
    assert "CMYK to sRGB" in note
    assert after.pixels[0, 0, 0] > 150 > after.pixels[0, 0, 1]
    assert after.icc is not None


def test_palettes_and_bilevel() -> None:
    image = Image.fromarray(photo(9, 7)).quantize(5)
    expected = np.asarray(image.convert("RGB"))
    for format in ("png", "bmp", "tiff"):
        after = read_picture(saved(image, format))
        np.testing.assert_array_equal(after.pixels, expected)
        assert after.notes == ("converted palette to RGB",)
    transparent = read_picture(saved(image, "png", transparency=0))
    np.testing.assert_array_equal(transparent.pixels[..., 3], np.where(np.asarray(image) == 0, 0, 255))
    bilevel = Image.fromarray(np.eye(8, dtype=bool))
    for format in ("png", "bmp", "tiff"):
        np.testing.assert_array_equal(read_picture(saved(bilevel, format)).pixels[..., 0], np.eye(8) * 255)


def test_a_transparent_colour_becomes_alpha() -> None:
    grey, colour = photo(5, 5, 1), photo(5, 5)
    data = saved(Image.fromarray(grey[..., 0]), "png", transparency=int(grey[0, 0, 0]))
    assert read_picture(data).pixels.shape == (5, 5, 2)
    data = saved(Image.fromarray(colour), "png", transparency=tuple(map(int, colour[0, 0])))
    after = read_picture(data).pixels
    assert after.shape == (5, 5, 4)
    assert after[0, 0, 3] == 0


def test_texts_come_from_the_table(repository: Path) -> None:
    guide = (repository / "docs" / "upscale.md").read_text("utf-8")
    assert all(image_format.label in guide for image_format in FORMATS.values())
    assert listed(["a", "b", "c"]) == "a, b or c"
    assert written_format(Path("PHOTO.JPE")) is FORMATS["jpeg"]
    assert written_format(Path("photo.bmp")) is None
    assert ".bmp" in SUFFIXES
    assert "bmp" not in WRITTEN
    with pytest.raises(ValueError, match=r"cannot write.*PNG"):
        FORMATS["bmp"].write(io.BytesIO(), Picture(photo(2, 2)), WriteOptions(), "test")


@pytest.mark.parametrize("options", [{"quality": 0}, {"quality": 101}, {"png_level": -1}, {"png_level": 10}], ids=str)
def test_options_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"must be .* to .*; got"):
        WriteOptions(**options)


def test_bmp_is_read() -> None:
    for channels in (1, 3):
        pixels = photo(6, 9, channels)
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        np.testing.assert_array_equal(read_picture(saved(image, "bmp", dpi=(150, 150))).pixels, pixels)


def test_first_picture_of_a_phones_file() -> None:
    """An MPO file contains the photo, and after it previews or a depth map."""
    first, second = Image.fromarray(photo(40, 48)), Image.new("RGB", (20, 24))
    data = saved(first, "mpo", save_all=True, append_images=[second], quality=95)
    after = read_picture(data)
    assert after.pixels.shape == (40, 48, 3)
    assert np.abs(after.pixels.astype(int) - photo(40, 48)).mean() < 15


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
def test_metadata_describe_the_run(format: str, dtype: type, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(encoded(Picture(photo(9, 9, 3, dtype)), "png"))
    data = through_command(tmp_path / "in.png", tmp_path / f"out.{format}")
    with Image.open(io.BytesIO(data)) as image:
        made = image.info.get("Software") or image.getexif()[305]
    assert "model=repeat; scale=2; plan=full; memory=2G; dtype=fp32; self_ensemble=no" in made


def test_damaged_profile_and_exif_are_dropped() -> None:
    image = Image.fromarray(photo(6, 6))
    after = read_picture(saved(image, "png", icc_profile=b"no profile at all" * 20))
    assert after.icc is None
    (note,) = after.notes
    assert "ICC profile" in note
    assert "damaged" in note
    after = read_picture(saved(image, "jpeg", exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage"))
    assert after.exif is None
    assert after.pixels.shape == (6, 6, 3)


def test_profile_of_another_colour_space_is_dropped() -> None:
    after = read_picture(saved(Image.fromarray(photo(6, 6, 1)[..., 0]), "png", icc_profile=SRGB))
    assert after.icc is None
    (note,) = after.notes
    assert "ICC profile" in note
    assert "RGB" in note


def test_sides_that_a_format_cannot_store() -> None:
    picture = Picture(photo(1, 1))
    with pytest.raises(ValueError, match=r"webp.*16383 pixels.*20000x10.*png"):
        FORMATS["webp"].fit(picture, 10, 20_000)
    with pytest.raises(ValueError, match=r"jpeg.*65500 pixels"):
        FORMATS["jpeg"].fit(picture, 70_000, 10)


def test_webp_s_encoder_counts_in_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For an output of 4 megapixels, the WebP writer needs 80 MB, four times as much as the PNG writer."""
    Image.fromarray(photo(1000, 1000)).save(tmp_path / "in.png")
    settings = UpscaleSettings(LOSSLESS, 700_000_000, "700M")
    jobs = [UpscaleJob(tmp_path / "in.png", tmp_path / f"out.{name}", FORMATS[name]) for name in ("webp", "png")]
    assert upscale_files(jobs, Repeat(), settings) == 1
    assert "1000x1000 pixels need --memory 0.9G" in capsys.readouterr().err
    assert not jobs[0].target.exists()
    assert jobs[1].target.exists()
