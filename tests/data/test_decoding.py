"""One decoder: prepare, verify, training, testing and the leaderboard see the same pixels, or refuse the same file."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pictures import make_picture
from PIL import Image

from han_arch.data import loading
from han_arch.data.degradation import degradation_at, is_turned
from han_arch.data.prepare import Recipe, prepare
from han_arch.data.verify import verify_pair, verify_single
from han_arch.errors import UserError
from han_arch.evaluation.sets import load_rgb_or_grey
from han_arch.images.read import read_image

PHOTO = make_picture(40, 28, 5)
IMAGE = Image.fromarray(PHOTO)
GREY = IMAGE.convert("L")


def rgba(alpha: int) -> Image.Image:
    image = IMAGE.convert("RGBA")
    image.putpixel((1, 1), (9, 9, 9, alpha))
    return image


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def saved(image: Image.Image, suffix: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()), **options)
    return file.getvalue()


LOSSLESS = {"png": {}, "webp": {"lossless": True}, "tif": {}, "bmp": {}}
# name -> (suffix, bytes, a part of the message if the file is refused)
FILES: dict[str, tuple[str, bytes, str]] = {
    **{f"{one} plain": (one, saved(IMAGE, one, **options), "") for one, options in LOSSLESS.items()},
    **{
        f"{one} orientation {number}": (one, saved(IMAGE, one, exif=exif(number), **LOSSLESS.get(one, {})), "")
        for one in ("jpg", "png", "webp", "tif")
        for number in range(1, 9)
    },
    "jpg grey, turned": ("jpg", saved(GREY, "jpg", exif=exif(6)), ""),
    "jpg progressive": ("jpg", saved(IMAGE, "jpg", progressive=True, quality=60), ""),
    "png grey": ("png", saved(GREY, "png"), ""),
    "png palette": ("png", saved(IMAGE.quantize(16), "png"), ""),
    "png bilevel": ("png", saved(IMAGE.convert("1"), "png"), ""),
    "png opaque alpha": ("png", saved(rgba(255), "png"), ""),
    "png transparent": ("png", saved(rgba(0), "png"), "transparent"),
    "png transparent colour": ("png", saved(GREY, "png", transparency=GREY.getpixel((0, 0))), "transparent"),
    "png 16 bits": ("png", cv2.imencode(".png", PHOTO.astype(np.uint16) * 257)[1].tobytes(), "16 bits"),
    "jpg CMYK": ("jpg", saved(IMAGE.convert("CMYK"), "jpg"), "CMYK"),
    "tif 16 bits": ("tif", saved(Image.fromarray(PHOTO[..., 0].astype(np.uint16)), "tif"), "bits"),
    "jpg cut": ("jpg", saved(IMAGE, "jpg")[:-60], "damaged"),
    "png cut": ("png", saved(IMAGE, "png")[:-60], "damaged"),
    "jpg with a text": ("jpg", b"a text", "not an image"),
    "jpg empty": ("jpg", b"", "empty"),
}


def by_prepare(folder: Path) -> np.ndarray:
    recipe = Recipe(products=["images"], grey="keep", patch=4)
    gt, _ = prepare(folder, folder.parent / "out", [degradation_at("BI", 2)], recipe, workers=1)
    return read_image(gt / "photo.png")


def by_verify(folder: Path) -> None:
    report = verify_single(folder, workers=1)
    if report.faults:
        raise UserError("; ".join(report.faults))


def by_training(folder: Path, phase: str = "train", single: bool = False) -> np.ndarray:
    loading.install()
    from basicsr.data import build_dataset

    roots = {f"dataroot_{side}": str(folder) for side in ("gt", "lq")}
    kind = "SingleImageDataset" if single else "PairedImageDataset"
    opt = {"name": "x", "type": kind, "io_backend": {"type": "disk"}, "phase": phase, "scale": 1, **roots}
    sample = build_dataset(opt | {"gt_size": 28, "use_hflip": False, "use_rot": False})[0]
    return (sample["lq"].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)


def by_leaderboard(folder: Path) -> np.ndarray:
    (path,) = folder.iterdir()
    return load_rgb_or_grey(path)


PATHS: dict[str, Callable[[Path], np.ndarray | None]] = {
    "prepare": by_prepare,
    "verify": by_verify,
    "validation": lambda folder: by_training(folder, "val"),
    "testing": lambda folder: by_training(folder, "test", single=True),
    "leaderboard": by_leaderboard,
}


@pytest.mark.usefixtures("basicsr")
@pytest.mark.parametrize("name", FILES)
def test_all_commands_see_the_same_pixels(name: str, tmp_path: Path) -> None:
    suffix, data, refused = FILES[name]
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / f"photo.{suffix}").write_bytes(data)
    results, messages = {}, {}
    for path, function in PATHS.items():
        try:
            results[path] = function(folder)
        except UserError as error:
            messages[path] = str(error)
    assert len(messages) == (len(PATHS) if refused else 0), messages
    for message in messages.values():
        assert "photo" in message
        assert refused in message
    results.pop("verify", None)
    shapes = {(image if image.ndim == 3 else np.stack([image] * 3, 2)).tobytes() for image in results.values()}
    assert len(shapes) == (0 if refused else 1)
    if "orientation" in name and suffix != "jpg":
        number = int(name[-1])
        turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270"}
        turns |= {7: "TRANSVERSE", 8: "ROTATE_90"}
        upright = IMAGE.transpose(Image.Transpose[turns[number]]) if number > 1 else IMAGE
        np.testing.assert_array_equal(results["leaderboard"], np.asarray(upright))


def test_an_lr_image_that_ignores_the_orientation_is_a_fault(tmp_path: Path) -> None:
    """The LR file was made from the pixels as stored, but all commands turn the HR file upright."""
    for name in ("gt", "lq"):
        (tmp_path / name).mkdir()
    for index in range(2):
        photo = make_picture(40, 40, index)
        Image.fromarray(photo).save(tmp_path / "gt" / f"{index}.jpg", quality=98, exif=exif(3))
        small = degradation_at("BI", 2).degrade(photo)
        Image.fromarray(small).save(tmp_path / "lq" / f"{index}.jpg", quality=98)
    faults = verify_pair(tmp_path / "gt", tmp_path / "lq", workers=1, scale=2).faults
    assert len(faults) == 2
    assert "lq: 0.jpg" in faults[0]
    assert "turned" in faults[0]
    assert "EXIF orientation" in faults[0]


def test_only_turned_images_count_as_turned() -> None:
    photo = make_picture(60, 60, 3)
    small = degradation_at("BI", 3).degrade(photo)
    assert not is_turned(photo, small)
    assert is_turned(photo, small[::-1])
    assert is_turned(photo, small.swapaxes(0, 1))
    flat = np.full((30, 30, 3), 7, np.uint8)
    assert not is_turned(flat, flat[::2, ::2])
