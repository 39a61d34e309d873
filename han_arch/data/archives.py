"""Where the data sets are to be had: official addresses, hashes, and what to take from each archive."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from han_arch.data.benchmarks import BENCHMARKS
from han_arch.download import DownloadError, RemoteFile, fetch, unpack_zip
from han_arch.errors import UserError
from han_arch.images.strict import list_files

DIV2K_URL = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"
SPLITS = {"train": 800, "valid": 100}
GIB = 2**30


@dataclass(frozen=True)
class Archive:
    """A zip file of images.

    Attributes:
        remote: address, file name, hash.
        folder: where the images go, below the output folder.
        images: how many there must be.
        limit: most bytes that they may have together.
        members: which files to take, see `unpack_zip`; None for all.
    """

    remote: RemoteFile
    folder: str
    images: int
    limit: int
    members: str | None = None


# No hash is published with DIV2K. These MD5 sums are those that Catalyst and torchSR check their downloads with.
_DIV2K_MD5 = {
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

# SelfExSR's archives, which its README and many others link; nobody published hashes of them. The scale is the one
# whose HR images are cropped least: Urban100's x2 folder holds HR of half size.
_SELFEXSR = {
    "Set5": ("kfahv87nfe8ax910l85dksyl2q212voc", 2),
    "Set14": ("igsnfieh4lz68l926l8xbklwsnnk8we9", 2),
    "B100": ("qgctsplb8txrksm9to9x01zfa4m61ngq", 3),
    "Urban100": ("65upg43jjd0a4cwsiqgl6o6ixube6klm", 4),
}


def div2k_archives(scales: Sequence[int], splits: Sequence[str]) -> list[Archive]:
    """DIV2K's HR archive of each split, and its official LR archive of each scale (2, 3, 4, 8)."""
    archives = []
    for split in splits:
        stems = {f"DIV2K_{split}_HR": 8 * GIB}
        stems |= {f"DIV2K_{split}_LR_{'x8' if s == 8 else f'bicubic_X{s}'}": 4 * GIB for s in scales}
        for stem, limit in stems.items():
            remote = RemoteFile(f"{DIV2K_URL}{stem}.zip", f"{stem}.zip", hash=f"md5:{_DIV2K_MD5[stem]}")
            archives.append(Archive(remote, f"DIV2K/{stem}", SPLITS[split], limit))
    return archives


def benchmark_archive(name: str) -> Archive:
    """The archive of a benchmark set; UserError when it cannot be downloaded, with what to do instead."""
    if name in _SELFEXSR:
        key, scale = _SELFEXSR[name]
        remote = RemoteFile(f"https://uofi.box.com/shared/static/{key}.zip", f"{name}_SelfExSR.zip")
        members = rf"image_SRF_{scale}/(img_\d+)_SRF_{scale}_HR(\.png)"
        return Archive(remote, f"{name}/HR", BENCHMARKS[name].images, 8 * GIB, members)
    known = ", ".join(["DIV2K", *_SELFEXSR])
    if name in BENCHMARKS:
        raise UserError(f"{name} cannot be downloaded here: {BENCHMARKS[name].source}. To be had: {known}")
    raise UserError(f"no data set {name!r}; to be had: {known}")


def obtain(archive: Archive, out: Path, keep: bool, say: Callable[[str], None]) -> Path:
    """Download and unpack an archive unless its folder is there.

    Args:
        archive: what.
        out: output folder; archives and their recorded hashes stand in its folder `downloads`.
        keep: leave the zip file there.
        say: told what was checked, in single lines.

    Returns:
        The folder of images.

    Raises:
        UserError: it could not be had, is not what it should be, or the folder there has another number of images.
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
        raise DownloadError(f"{folder} has {count} images, {archive.images} belong there; remove it and try again")
    say(f"{folder}: {count} images")
    return folder
