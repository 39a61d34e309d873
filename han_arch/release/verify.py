"""Check weight files, entries and release folders; list everything that is right or wrong, one line each."""

import csv
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from han_arch import compat
from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.evaluation.contestants import BICUBIC
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.run import measure_sets
from han_arch.evaluation.score import mean_scores
from han_arch.evaluation.sets import find_sets
from han_arch.files import hash_file
from han_arch.zoo import entry as table
from han_arch.zoo import store
from han_arch.zoo.entry import Entry
from han_arch.zoo.load import load_model, load_strict
from han_arch.zoo.read import read_header
from han_arch.zoo.recognise import HAN_DEFAULTS, normalisation, read_checkpoint

# Tolerance for two trainings by one recipe that round differently (another processor, other versions). It is about the
# standard deviation of three seeds on Set5 in the ablation; seeds change more than rounding does.
RETRAINED_DB = 0.05
SUMS, PER_IMAGE = "SHA256SUMS", "per_image.csv"
_SUM = re.compile(r"(?P<sha256>[0-9a-f]{64}) [ *](?P<name>.+)")


@dataclass
class Verification:
    """The result of a check, in sentences: what is right, and what is wrong."""

    good: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, other: "Verification", before: str = "") -> None:
        """Append the lines of another check, each with a text before it."""
        self.good += [before + line for line in other.good]
        self.faults += [before + line for line in other.faults]


def check(target: str, data: Path | None = None, against: str | None = None) -> Verification:
    """Check one target of `basicsr zoo verify`.

    Args:
        target: an entry's name, a weight file, or a release folder.
        data: folder of the test sets, on which to measure an entry's weights; None: do not measure.
        against: name of the entry to compare a release folder's results with.

    Raises:
        FileNotFoundError: no such target.
        UserError: the target does not go with the other arguments, or an entry's file is not here.
    """
    path = Path(target)
    if against and not path.is_dir():
        raise UserError(f"--against needs a release folder and compares its results; got {target}")
    if table.is_name(target):
        entry = table.find(target)
        file = store.present(entry)
        if file is None:
            how = f"basicsr zoo fetch {entry.name}" if entry.url and entry.sha256 else entry.how_to_get
            raise UserError(f"{entry.name} is not here; {how}")
        found = check_entry(entry, file)
        if data is not None and not found.faults:
            found.add(compare(entry, measure_entry(entry, file, data)))
        return found
    if data:
        raise UserError(f"--measure needs an entry's name: the table has its numbers; got {target}")
    if path.is_dir():
        found = check_folder(path)
        if against:
            found.add(compare_training(table.find(against), folder_means(path)))
        return found
    if path.is_file():
        return check_file(path)
    if path.name == target and not path.suffix:
        table.find(target)  # raises the error with the nearest name
    raise FileNotFoundError(f"no entry, file or folder {target}")


def measure_entry(entry: Entry, path: Path, data: Path) -> dict[str, tuple[float, float]]:
    """Measure an entry's file on Set5 under a folder; return set -> (mean PSNR in dB, mean SSIM)."""
    compat.require_basicsr()
    test_sets = find_sets(data, Protocol(entry.degradation, entry.scale), ("Set5",))
    scores = mean_scores(measure_sets(entry.name, {"checkpoint": str(path)}, test_sets))
    return {name: (score.psnr, score.ssim) for name, score in scores.items()}


def read_means(path: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Read a per-image table: model -> set -> (mean PSNR in dB, mean SSIM), without nan and inf as on the board.

    Raises:
        UserError: no per-image table.
    """
    collected: dict[str, dict[str, list[tuple[float, float]]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                own = collected.setdefault(row["model"], {}).setdefault(row["set"], [])
                values = float(row["psnr_db"]), float(row["ssim"])
                if all(map(math.isfinite, values)):
                    own.append(values)
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is no per-image table of a release: {error}") from error
    return {
        model: {dataset: tuple(np.mean(values, axis=0).tolist()) for dataset, values in own.items() if values}
        for model, own in collected.items()
    }


def check_file(path: Path) -> Verification:
    """Check a weight file: the hash in its name, its header, and that its network can be built and filled."""
    found = Verification()
    if path.suffix == ".safetensors":
        digest, named = hash_file(path), store.hash_in_name(path)
        if named and not digest.startswith(named):
            found.faults.append(f"its name says the hash begins with {named}; it is {digest}")
        else:
            agrees = " agrees with its name" if named else "; its name has no hash to compare"
            found.good.append(f"sha256 {digest}{agrees}")
    try:
        net = load_model(path)
        if path.suffix == ".safetensors":
            found.faults += _header_faults(path)
    except UserError as error:
        found.faults.append(str(error))
        return found
    parameters = sum(parameter.numel() for parameter in net.parameters())
    found.good.append(f"x{net.upscale} network of {parameters:,} parameters built and filled strictly")
    return found


def _header_faults(path: Path) -> list[str]:
    header = read_header(path)
    network_g = header.get("network_g")
    if network_g is None:
        return ["its header has no network_g: options that no shape shows were assumed"]
    missing = [key for key in HAN_DEFAULTS if key not in network_g]
    faults = [f"network_g in its header lacks {', '.join(missing)}"] if missing else []
    if header.get("normalisation", normalisation(network_g)) != normalisation(network_g):
        faults.append(f"its header's normalisation {header['normalisation']} disagrees with network_g")
    return faults


def check_entry(entry: Entry, path: Path) -> Verification:
    """Check an entry's file against the table."""
    found = check_file(path)
    if hash_file(path) != entry.sha256:
        found.faults.append(f"its hash is not the table's {entry.sha256}")
    if entry.size is not None and path.stat().st_size != entry.size:
        found.faults.append(f"it has {path.stat().st_size} bytes; the table says {entry.size}")
    if found.faults:
        return found
    net = HAN(**entry.arguments)
    try:
        load_strict(net, read_checkpoint(path), entry.arguments)
    except UserError as error:
        found.faults.append(str(error))
    if sum(parameter.numel() for parameter in net.parameters()) != entry.parameters:
        found.faults.append(f"its network does not have the table's {entry.parameters:,} parameters")
    return found


def check_folder(folder: Path) -> Verification:
    """Check a release folder: every file's hash, no missing or additional file, and the weights.

    Raises:
        UserError: no release folder.
    """
    found = Verification()
    sums = folder / SUMS
    if not sums.is_file():
        raise UserError(f"{folder} is no release folder: it has no {SUMS}")
    listed: dict[str, str] = {}
    for line in sums.read_text("utf-8").splitlines():
        match = _SUM.fullmatch(line)
        if not match or PurePosixPath(match["name"]).is_absolute() or ".." in PurePosixPath(match["name"]).parts:
            found.faults.append(f"{SUMS} has a line without hash and name: {line}")
        else:
            listed[match["name"]] = match["sha256"]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {SUMS}
    found.faults += [f"{name} is missing" for name in sorted(listed.keys() - there)]
    found.faults += [f"{name} is not in {SUMS}" for name in sorted(there - listed.keys())]
    wrong = [name for name in sorted(there & listed.keys()) if hash_file(folder / name) != listed[name]]
    found.faults += [f"{name} has another hash than in {SUMS}" for name in wrong]
    found.good.append(f"{len(there & listed.keys()) - len(wrong)} files have the hash in {SUMS}")
    weights = [folder / name for name in sorted(there) if name.endswith(".safetensors")]
    if not weights:
        found.faults.append("it has no .safetensors")
    for path in weights:
        found.add(check_file(path), f"{path.name}: ")
    return found


def compare(entry: Entry, got: dict[str, tuple[float, float]]) -> Verification:
    """Compare measured means (set -> PSNR in dB, SSIM) with the results in the table."""
    found = Verification()
    if not entry.expected:
        found.faults.append(f"the table has no results of {entry.name}: none was found or measured")
    for expected in entry.expected:
        if expected.dataset not in got:
            continue
        psnr, ssim = got[expected.dataset]
        line = (
            f"{expected.dataset}: {psnr:.4f} dB / {ssim:.5f}, expected {expected.psnr:.4f} / {expected.ssim:.5f} "
            f"within {expected.tolerance_db} dB"
        )
        (found.faults if expected.differs(psnr, ssim) else found.good).append(line)
    if not found.good and not found.faults:
        found.faults.append(f"none of the sets {', '.join(e.dataset for e in entry.expected)} was measured")
    return found


def compare_training(entry: Entry, got: dict[str, tuple[float, float]]) -> Verification:
    """Compare the means of another training by the entry's recipe: every set, within `RETRAINED_DB`."""
    expected = tuple(replace(e, tolerance_db=max(e.tolerance_db, RETRAINED_DB)) for e in entry.expected)
    found = compare(replace(entry, expected=expected), got)
    found.faults += [f"{e.dataset} was not measured" for e in expected if e.dataset not in got]
    return found


def folder_means(folder: Path) -> dict[str, tuple[float, float]]:
    """Return the means of a release's own model, from its per-image table: set -> (PSNR in dB, SSIM).

    Raises:
        UserError: the table is damaged, or has several models besides Bicubic.
    """
    means = read_means(folder / PER_IMAGE)
    own = [name for name in means if name != BICUBIC]
    if len(own) != 1:
        raise UserError(
            f"{folder / PER_IMAGE} must have one model besides {BICUBIC}; it has {', '.join(own) or 'none'}"
        )
    return means[own[0]]
