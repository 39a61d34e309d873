"""The benchmark sets of the papers: what belongs to them, how to know them, what to beware of, who allows what."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from han_arch.errors import UserError
from han_arch.images.strict import ImageError, list_files, read_image

SELFEXSR = "https://github.com/jbhuang0604/SelfExSR"


@dataclass(frozen=True)
class BenchmarkSet:
    """One benchmark set.

    Attributes:
        name: as in tables and folders.
        images: how many there are.
        source: where the HR images come from.
        licence: terms of use.
        notes: known traps.
        sizes: the possible (width, height) of the HR images in the order of their names, or of any of them when
            `any_order`; empty when they are not known here.
        any_order: `sizes` is a set of sizes that come again and again.
        grey: stems of the files that are grey.
        pixels: `pixel_digest` of the HR files as distributed, None when they are not known here.
    """

    name: str
    images: int
    source: str
    licence: str
    notes: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    any_order: bool = False
    grey: tuple[str, ...] = ()
    pixels: str | None = None


_CROPPED = "SelfExSR's HR of each scale is cropped to it; data prepare crops, so one HR folder serves every scale"

BENCHMARKS = {
    row.name: row
    for row in (
        BenchmarkSet(
            "Set5",
            5,
            f"Bevilacqua et al., BMVC 2012; images as in {SELFEXSR}",
            "research use",
            ("woman (img_005) is BSDS500's 302003.jpg: leave it out of training", _CROPPED),
            ((512, 512), (288, 288), (256, 256), (280, 280), (228, 344)),
            pixels="aedfc4429ce4c2a6d9fc84562ef72fa5374131c88e7f5e6455127b43648296fd",
        ),
        BenchmarkSet(
            "Set14",
            14,
            f"Zeyde et al., 2010; images as in {SELFEXSR}",
            "research use",
            (
                "img_003 is grey: networks are scored on it as three equal channels (grey: as_rgb); only the published "
                "bicubic row compares its grey values directly (grey: direct), 0.09 dB less on the mean",
                _CROPPED,
            ),
            (
                *((500, 480), (720, 576), (512, 512), (352, 288), (250, 360), (276, 276), (500, 362), (352, 288)),
                *((512, 512), (512, 512), (768, 512), (512, 512), (528, 656), (586, 390)),
            ),
            grey=("img_003",),
            pixels="d8436925d72b7111d30ed14fce9849584a326aaa881dbd763a1fee310eaeb98d",
        ),
        BenchmarkSet(
            "B100",
            100,
            f"the val part of BSDS500, Martin et al., ICCV 2001; images as in {SELFEXSR} (BSD100)",
            "non-commercial research and education (UC Berkeley)",
            ("leave BSDS500's val part out of training: it is this set", _CROPPED),
            ((480, 321), (321, 480)),
            any_order=True,
            pixels="147dda67122e09cc99c0900f40c8e867beb0a4d34d8ddb0a8197cb28e2403b40",
        ),
        BenchmarkSet(
            "Urban100",
            100,
            f"Huang et al., CVPR 2015; {SELFEXSR}",
            "research use; photos from Flickr under Creative Commons",
            ("SelfExSR's x2 folder holds HR of half size: take the x4 folder's HR for every scale",),
        ),
        BenchmarkSet(
            "Manga109",
            109,
            "Matsui et al., 2017; on application at http://www.manga109.org",
            "academic use on application; redistribution not allowed",
            ("published SR results use one page of each of the 109 volumes, not the whole data set",),
        ),
        BenchmarkSet(
            "DIV2K100",
            100,
            "DIV2K_valid_HR (0801 to 0900), Agustsson and Timofte, CVPRW 2017",
            "academic research only",
            (
                "used for choosing checkpoints in many recipes: no unseen test set then",
                "which border convention DIV2K's own LR files follow: data verify tells",
            ),
        ),
    )
}


def pixel_digest(files: Sequence[Path]) -> str:
    """SHA-256 over shapes and pixels of images in the given order; the same for any lossless file format."""
    digest = hashlib.sha256()
    for file in files:
        pixels = read_image(file)
        digest.update(repr(pixels.shape).encode())
        digest.update(pixels.tobytes())
    return digest.hexdigest()


def compare_with_benchmark(name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Check a folder of HR images against the table.

    Args:
        name: of a benchmark set.
        folder: its HR images, as distributed or cut at the bottom and right (mod-cropped) by less than 12 pixels.

    Returns:
        Notes and faults, one line each.

    Raises:
        UserError: no such set.
    """
    if name not in BENCHMARKS:
        raise UserError(f"no benchmark set {name!r}; there are {', '.join(BENCHMARKS)}")
    row = BENCHMARKS[name]
    files = list_files(folder)
    faults = [] if len(files) == row.images else [f"{folder}: {len(files)} images; {name} has {row.images}"]
    images = {}
    for file in files:
        try:
            images[file] = read_image(file)
        except ImageError as error:
            faults.append(str(error))
    for index, (file, pixels) in enumerate(images.items()):
        size = (pixels.shape[1], pixels.shape[0])
        allowed = row.sizes if row.any_order else row.sizes[index : index + 1]
        if allowed and not any(_cropped_from(size, whole) for whole in allowed):
            faults.append(
                f"{file}: {size[0]}x{size[1]}; {name} has {' or '.join(f'{w}x{h}' for w, h in allowed)} there"
            )
        if row.sizes and (pixels.ndim == 2) != (file.stem in row.grey):
            faults.append(f"{file}: {'grey' if pixels.ndim == 2 else 'colour'}, unlike in {name}")
    notes = [f"{name}: {note}" for note in row.notes]
    if row.pixels is None:
        notes.insert(0, f"{name}: only the number of images is known, neither sizes nor hashes")
    elif not faults and pixel_digest(files) == row.pixels:
        notes.insert(0, f"{name}: every pixel as in SelfExSR's files")
    elif not faults:
        notes.insert(0, f"{name}: sizes fit; not the very pixels of SelfExSR's files (cropped, or another copy)")
    return notes, faults


def _cropped_from(size: tuple[int, int], whole: tuple[int, int]) -> bool:
    # Other copies of the sets have the pixel or two that SelfExSR's crop took away.
    return all(-2 <= full - cut < 12 for full, cut in zip(whole, size, strict=True))
