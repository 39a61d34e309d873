"""Published data sets: contents, terms, traps, downloads, and how to recognise a copy.

To add a benchmark set, add its record to `BENCHMARKS`. Commands, checks and downloads follow from it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from han_arch.download import DownloadError, RemoteFile, fetch, unpack_zip
from han_arch.errors import UserError, unknown
from han_arch.images.picture import ImageError
from han_arch.images.read import list_files, read_image

SELFEXSR = "https://github.com/jbhuang0604/SelfExSR"
DIV2K_URL = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"
SPLITS = {"train": 800, "valid": 100}
GIB = 2**30


@dataclass(frozen=True)
class Archive:
    """A zip file of images.

    Attributes:
        remote: address, file name, hash.
        folder: folder of the images, below the output folder.
        images: number of images.
        limit: maximum of their bytes together.
        members: which files to take, see `unpack_zip`; None takes all.
    """

    remote: RemoteFile
    folder: str
    images: int
    limit: int
    members: str | None = None


@dataclass(frozen=True)
class BenchmarkSet:
    """One benchmark set.

    Attributes:
        name: as in tables and folders.
        images: number of images.
        source: origin of the HR images.
        licence: terms of use.
        notes: known traps.
        download: zip file with the HR images, and which of its files to take, as in `Archive`.
        in_papers: whether the tables of the HAN paper have it; the shipped test and leaderboard files then use it.
        sizes: (width, height) of the HR images in the order of their names, or the sizes that occur if
            `any_order`; empty if they are not known here.
        any_order: whether every image may have any of `sizes`.
        grey: stems of the grey files.
        pixels: SHA-256 of shapes and pixels of the HR files as distributed; None if it is not known here.
    """

    name: str
    images: int
    source: str
    licence: str
    notes: tuple[str, ...] = ()
    download: tuple[RemoteFile, str | None] | None = None
    in_papers: bool = False
    sizes: tuple[tuple[int, int], ...] = ()
    any_order: bool = False
    grey: tuple[str, ...] = ()
    pixels: str | None = None

    def describe(self) -> str:
        """Describe the set in a few lines: size, source, terms, traps."""
        lines = [f"{self.name}: {self.images} images; {self.source}", f"  licence: {self.licence}"]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def _selfexsr(name: str, key: str, scale: int) -> tuple[RemoteFile, str]:
    # Links of SelfExSR's README; nobody published hashes. `scale`: the folder with the least cropped HR.
    remote = RemoteFile(f"https://uofi.box.com/shared/static/{key}.zip", f"{name}_SelfExSR.zip")
    return remote, rf"image_SRF_{scale}/(img_\d+)_SRF_{scale}_HR(\.png)"


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
            _selfexsr("Set5", "kfahv87nfe8ax910l85dksyl2q212voc", 2),
            in_papers=True,
            sizes=((512, 512), (288, 288), (256, 256), (280, 280), (228, 344)),
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
            _selfexsr("Set14", "igsnfieh4lz68l926l8xbklwsnnk8we9", 2),
            in_papers=True,
            sizes=(
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
            _selfexsr("B100", "qgctsplb8txrksm9to9x01zfa4m61ngq", 3),
            in_papers=True,
            sizes=((480, 321), (321, 480)),
            any_order=True,
            pixels="147dda67122e09cc99c0900f40c8e867beb0a4d34d8ddb0a8197cb28e2403b40",
        ),
        BenchmarkSet(
            "Urban100",
            100,
            f"Huang et al., CVPR 2015; {SELFEXSR}",
            "research use; photos from Flickr under Creative Commons",
            ("SelfExSR's x2 folder holds HR of half size: take the x4 folder's HR for every scale",),
            _selfexsr("Urban100", "65upg43jjd0a4cwsiqgl6o6ixube6klm", 4),
            in_papers=True,
        ),
        BenchmarkSet(
            "Manga109",
            109,
            "Matsui et al., 2017; on application at http://www.manga109.org",
            "academic use on application; redistribution not allowed",
            ("published SR results use one page of each of the 109 volumes, not the whole data set",),
            in_papers=True,
        ),
        BenchmarkSet(
            "DIV2K100",
            100,
            "DIV2K_valid_HR (0801 to 0900), Agustsson and Timofte, CVPRW 2017",
            "academic research only",
            (
                "many recipes choose checkpoints on it: no unseen test set then",
                "data verify finds the border convention of DIV2K's own LR files",
            ),
        ),
    )
}
DOWNLOADS = ("DIV2K", *(row.name for row in BENCHMARKS.values() if row.download))

# No hash is published with DIV2K. Catalyst and torchSR check their downloads with these MD5 sums.
DIV2K_MD5 = {
    "DIV2K_train_HR": "bdc2d9338d4e574fe81bf7d158758658",
    "DIV2K_valid_HR": "9fcdda83005c5e5997799b69f955ff88",
    "DIV2K_train_LR_bicubic_X2": "9a637d2ef4db0d0a81182be37fb00692",
    "DIV2K_valid_LR_bicubic_X2": "1512c9a3f7bde2a1a21a73044e46b9cb",
    "DIV2K_train_LR_bicubic_X3": "ad80b9fe40c049a07a8a6c51bfab3b6d",
    "DIV2K_valid_LR_bicubic_X3": "18b1d310f9f88c13618c287927b29898",
    "DIV2K_train_LR_bicubic_X4": "76c43ec4155851901ebbe8339846d93d",
    "DIV2K_valid_LR_bicubic_X4": "21962de700c8d368c6ff83314480eff0",
    "DIV2K_train_LR_x8": "613db1b855721b3d2b26f4194a1d22a6",
    "DIV2K_valid_LR_x8": "c5aeea2004e297e9ff3abfbe143576a5",
}


def div2k_archives(scales: Sequence[int], splits: Sequence[str]) -> list[Archive]:
    """Return DIV2K's HR archive of each split, and its official LR archive of each scale (2, 3, 4, 8)."""
    archives = []
    for split in splits:
        for kind in ("HR", *("LR_x8" if scale == 8 else f"LR_bicubic_X{scale}" for scale in scales)):
            stem = f"DIV2K_{split}_{kind}"
            remote = RemoteFile(f"{DIV2K_URL}{stem}.zip", f"{stem}.zip", hash=f"md5:{DIV2K_MD5[stem]}")
            archives.append(Archive(remote, f"DIV2K/{stem}", SPLITS[split], (8 if kind == "HR" else 4) * GIB))
    return archives


def archives_of(name: str, scales: Sequence[int], splits: Sequence[str]) -> list[Archive]:
    """Return the archives of a name in `DOWNLOADS`; scales and splits as in `div2k_archives`, for DIV2K only.

    Raises:
        UserError: no such set, or no download of it; the message has the remedy.
    """
    if name == "DIV2K":
        return div2k_archives(scales, splits)
    if name not in BENCHMARKS:
        raise unknown("data set", name, DOWNLOADS)
    row = BENCHMARKS[name]
    if row.download is None:
        raise UserError(f"{name} has no download here: {row.source}. Available: {', '.join(DOWNLOADS)}")
    remote, members = row.download
    return [Archive(remote, f"{name}/HR", row.images, 8 * GIB, members)]


def obtain(archive: Archive, out: Path, keep: bool, say: Callable[[str], None]) -> Path:
    """Download and unpack an archive unless its folder exists; return the folder of images.

    Args:
        archive: what to obtain.
        out: output folder; its folder `downloads` gets the archives and their recorded hashes.
        keep: keep the zip file.
        say: callback for one line for each check.

    Raises:
        UserError: the download failed or has wrong content, or an existing folder has another number of images.
    """
    folder = out / archive.folder
    if not folder.exists():
        file = fetch(archive.remote, out / "downloads", say)
        folder.parent.mkdir(parents=True, exist_ok=True)
        unpack_zip(file, folder, archive.limit, archive.members)
        if not keep:
            file.unlink()
    count = len(list_files(folder))
    if count != archive.images:
        raise DownloadError(f"{folder} has {count} images instead of {archive.images}; remove it and try again")
    say(f"{folder}: {count} images")
    return folder


def compare_with_benchmark(name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Compare HR images with the record of a benchmark set; return notes and faults, one line each.

    The images may be cut at the bottom and right (mod-cropped) by less than 12 pixels.

    Raises:
        UserError: no such set.
    """
    if name not in BENCHMARKS:
        raise unknown("benchmark set", name, BENCHMARKS)
    row = BENCHMARKS[name]
    files = list_files(folder)
    faults = [] if len(files) == row.images else [f"{folder}: {len(files)} images; {name} has {row.images}"]
    digest = hashlib.sha256()
    for index, file in enumerate(files):
        try:
            pixels = read_image(file)
        except ImageError as error:
            faults.append(str(error))
            continue
        digest.update(repr(pixels.shape).encode())
        digest.update(pixels.tobytes())
        size = (pixels.shape[1], pixels.shape[0])
        allowed = row.sizes if row.any_order else row.sizes[index : index + 1]
        if allowed and not any(_is_cropped_from(size, whole) for whole in allowed):
            faults.append(f"{file}: {size[0]}x{size[1]}; {name} has {' or '.join(f'{w}x{h}' for w, h in allowed)}")
        if row.sizes and (pixels.ndim == 2) != (file.stem in row.grey):
            faults.append(f"{file}: {'grey' if pixels.ndim == 2 else 'colour'}, unlike in {name}")
    notes = [f"{name}: {note}" for note in row.notes]
    if row.pixels is None:
        notes.insert(0, f"{name}: only the number of images is known, neither sizes nor hashes")
    elif not faults:
        is_same = digest.hexdigest() == row.pixels
        differ = "sizes fit; pixels differ from the published files (cropped, or another copy)"
        notes.insert(0, f"{name}: {'every pixel as in the published files' if is_same else differ}")
    return notes, faults


def _is_cropped_from(size: tuple[int, int], whole: tuple[int, int]) -> bool:
    # Other copies of the sets have a pixel or two that SelfExSR's crop removed.
    return all(-2 <= full - cut < 12 for full, cut in zip(whole, size, strict=True))
