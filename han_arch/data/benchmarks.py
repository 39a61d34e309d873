"""Records of published data sets: number and sizes of images, licence, known traps, download address, pixel hash.

To add a benchmark set, add its record to `BENCHMARKS`. The commands, checks and downloads then include the set.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from han_arch.download import DownloadError, RemoteFile, fetch_opened
from han_arch.errors import UserError, unknown
from han_arch.images.picture import ImageError
from han_arch.images.read import list_files, read_image
from han_arch.locks import held
from han_arch.unpack import unpack_zip

SELFEXSR = "https://github.com/jbhuang0604/SelfExSR"
DIV2K_URL = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"
SPLITS = {"train": 800, "valid": 100}  # part of DIV2K -> number of images
GIB = 2**30


@dataclass(frozen=True)
class Archive:
    """A zip file of images."""

    remote: RemoteFile
    folder: str  # folder for the unpacked images, relative to the output folder
    images: int  # number of images that the folder must contain
    limit: int  # maximum total size of the unpacked files in bytes
    members: str | None = None  # regular expression for the files to unpack, see `unpack_zip`; None: all files


@dataclass(frozen=True)
class BenchmarkSet:
    """The record of one benchmark set."""

    name: str  # name in commands, tables and folders
    images: int  # number of images
    source: str  # publication or address that the HR images come from
    licence: str
    notes: tuple[str, ...] = ()  # known traps for users of the set
    # The zip file with the HR images, and its `Archive.members`. None: this package cannot download the set.
    download: tuple[RemoteFile, str | None] | None = None
    in_papers: bool = False  # whether the tables of the HAN paper contain the set; shipped option files then use it
    sizes: tuple[tuple[int, int], ...] = ()  # (width, height) of each HR image, sorted by file name; empty: unknown
    any_order: bool = False  # True: `sizes` lists each size once, and each image may have any of these sizes
    grey: tuple[str, ...] = ()  # file names of the grey images, without extension
    pixels: str | None = None  # SHA-256 of the shapes and pixels of all published HR files; None: unknown

    def describe(self) -> str:
        """Return a few lines about the set: number of images, source, licence, known traps."""
        lines = [f"{self.name}: {self.images} images; {self.source}", f"  licence: {self.licence}"]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def _selfexsr(name: str, key: str, scale: int) -> tuple[RemoteFile, str]:
    # The links come from SelfExSR's README; nobody published hashes. SelfExSR has one folder of cropped HR images for
    # each scale; `scale` selects the folder with the images that lost the fewest pixels.
    remote = RemoteFile(f"https://uofi.box.com/shared/static/{key}.zip", f"{name}_SelfExSR.zip")
    return remote, rf"image_SRF_{scale}/(img_\d+)_SRF_{scale}_HR(\.png)"


_CROPPED = (
    "SelfExSR crops the HR images differently for each scale; you need only one folder of HR images, because basicsr "
    "data prepare crops them for each scale"
)

BENCHMARKS = {
    row.name: row
    for row in (
        BenchmarkSet(
            "Set5",
            5,
            f"Bevilacqua et al., BMVC 2012; images from {SELFEXSR}",
            "research use",
            ("woman (img_005) is image 302003.jpg of BSDS500; do not train on that image", _CROPPED),
            _selfexsr("Set5", "kfahv87nfe8ax910l85dksyl2q212voc", 2),
            in_papers=True,
            sizes=((512, 512), (288, 288), (256, 256), (280, 280), (228, 344)),
            pixels="aedfc4429ce4c2a6d9fc84562ef72fa5374131c88e7f5e6455127b43648296fd",
        ),
        BenchmarkSet(
            "Set14",
            14,
            f"Zeyde et al., 2010; images from {SELFEXSR}",
            "research use",
            (
                "img_003 is grey; for published scores of networks, it was converted to three equal channels (option "
                "grey: as_rgb); for published scores of Bicubic, its grey values were compared (option grey: direct), "
                "which lowers the mean PSNR by 0.09 dB",
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
            f"the val part of BSDS500, Martin et al., ICCV 2001; images from {SELFEXSR} (there called BSD100)",
            "non-commercial research and education (UC Berkeley)",
            ("B100 is the val part of BSDS500; do not train on that part", _CROPPED),
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
            ("SelfExSR's x2 folder has HR images of half size; use the HR images of its x4 folder for all scales",),
            _selfexsr("Urban100", "65upg43jjd0a4cwsiqgl6o6ixube6klm", 4),
            in_papers=True,
        ),
        BenchmarkSet(
            "Manga109",
            109,
            "Matsui et al., 2017; request access at http://www.manga109.org",
            "academic use only, after a request for access; redistribution is not allowed",
            ("published scores use one page from each of the 109 volumes, not all pages of the data set",),
            in_papers=True,
        ),
        BenchmarkSet(
            "DIV2K100",
            100,
            "DIV2K_valid_HR (0801 to 0900), Agustsson and Timofte, CVPRW 2017",
            "academic research only",
            (
                "the checkpoints of many networks were selected on this set; do not test those networks on it",
                "to find out how DIV2K's official LR images extend the border, run basicsr data verify",
            ),
        ),
    )
}
DOWNLOADS = ("DIV2K", *(row.name for row in BENCHMARKS.values() if row.download))

# The authors of DIV2K published no hashes. The toolboxes Catalyst and torchSR check DIV2K against these MD5 sums.
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
    """Return the zip files of DIV2K. Each split has one file of HR images, and one file of LR images for each scale."""
    archives = []
    for split in splits:
        for kind in ("HR", *("LR_x8" if scale == 8 else f"LR_bicubic_X{scale}" for scale in scales)):
            stem = f"DIV2K_{split}_{kind}"
            remote = RemoteFile(f"{DIV2K_URL}{stem}.zip", f"{stem}.zip", hash=f"md5:{DIV2K_MD5[stem]}")
            archives.append(Archive(remote, f"DIV2K/{stem}", SPLITS[split], (8 if kind == "HR" else 4) * GIB))
    return archives


def archives_of(name: str, scales: Sequence[int], splits: Sequence[str]) -> list[Archive]:
    """Return the zip files to download for a data set; raise UserError if the data set is not in `DOWNLOADS`.

    `scales` and `splits` (keys of `SPLITS`) select zip files of DIV2K. For other data sets, they have no effect.
    """
    if name == "DIV2K":
        return div2k_archives(scales, splits)
    if name not in BENCHMARKS:
        raise unknown("data set", name, DOWNLOADS)
    row = BENCHMARKS[name]
    if row.download is None:
        available = ", ".join(DOWNLOADS)
        raise UserError(f"this command downloads only {available}; the source of {name} is {row.source}")
    remote, members = row.download
    return [Archive(remote, f"{name}/HR", row.images, 8 * GIB, members)]


def obtain(archive: Archive, out: Path, keep: bool, say: Callable[[str], None]) -> Path:
    """Download and unpack an archive if its folder does not exist; return the folder with the images.

    Args:
        out: output folder; its sub-folder `downloads` gets the zip files and a record of their hashes.
        keep: whether to keep the zip file after unpacking.
        say: callback that receives one line of text after each check.

    Raises:
        UserError: the download failed, the zip file is wrong or unsafe, or the number of images is wrong.
    """
    folder = out / archive.folder
    if not folder.exists():  # a folder that is only read needs no lock
        with held(folder, f"the download of {archive.remote.name}", wait=True):
            if not folder.exists():
                with fetch_opened(archive.remote, out / "downloads", say) as file:
                    unpack_zip(file, folder, archive.limit, archive.members)
                if not keep:
                    Path(file.name).unlink()
    count = len(list_files(folder))
    if count != archive.images:
        advice = "remove the folder and run the command again"
        raise DownloadError(f"{folder} has {count} images instead of {archive.images}; {advice}")
    say(f"{folder}: {count} images")
    return folder


def compare_with_benchmark(name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Compare a folder of HR images with the record of a benchmark set; return notes and faults, one line each.

    An image side may be up to 11 pixels shorter or 2 pixels longer than in the record, because copies of the sets were
    cropped in different ways.

    Raises:
        UserError: the benchmark set is unknown.
    """
    if name not in BENCHMARKS:
        raise unknown("benchmark set", name, BENCHMARKS)
    row = BENCHMARKS[name]
    files = list_files(folder)
    faults = [] if len(files) == row.images else [f"{folder} has {len(files)} images; {name} has {row.images}"]
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
            wanted = " or ".join(f"{w}x{h}" for w, h in allowed)
            faults.append(f"{file} is {size[0]}x{size[1]}; in {name}, this image is {wanted}")
        if row.sizes and (pixels.ndim == 2) != (file.stem in row.grey):
            found, wanted = ("grey", "in colour") if pixels.ndim == 2 else ("in colour", "grey")
            faults.append(f"{file} is {found}; in {name}, this image is {wanted}")
    notes = [f"{name}: {note}" for note in row.notes]
    if row.pixels is None:
        checked = "only the number of images was checked; the sizes and hashes of this set are unknown"
    elif digest.hexdigest() == row.pixels:
        checked = "every pixel is the same as in the published files"
    else:
        checked = "the sizes fit, but pixels differ from the published files (cropped, or another copy of the set)"
    if row.pixels is None or not faults:
        notes.insert(0, f"{name}: {checked}")
    return notes, faults


def _is_cropped_from(size: tuple[int, int], whole: tuple[int, int]) -> bool:
    # Images in other copies of the sets can be up to 2 pixels larger, because SelfExSR cropped its images.
    return all(-2 <= full - cut < 12 for full, cut in zip(whole, size, strict=True))
