"""Check weight files, zoo entries and release folders."""

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
from han_arch.zoo.read import is_safetensors, read_header
from han_arch.zoo.recognise import HAN_DEFAULTS, normalisation, read_checkpoint

# Largest PSNR difference allowed between two trainings by one recipe, because other processors and versions round
# differently. It is about the standard deviation over three seeds on Set5 in the ablation.
RETRAINED_DB = 0.05
SUMS, PER_IMAGE = "SHA256SUMS", "per_image.csv"
_SUM = re.compile(r"(?P<sha256>[0-9a-f]{64}) [ *](?P<name>.+)")


@dataclass
class Verification:
    """The result of a check. `good` has a line for each test that passed, `faults` for each test that failed."""

    good: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, other: "Verification", before: str = "") -> None:
        """Append the lines of another check. The text `before` is put before each line."""
        self.good += [before + line for line in other.good]
        self.faults += [before + line for line in other.faults]


def check(target: str, data: Path | None = None, against: str | None = None) -> Verification:
    """Check a zoo entry, a weight file or a release folder.

    Args:
        target: name of a zoo entry, path of a weight file, or path of a release folder.
        data: folder with the test sets, to measure a zoo entry. None: do not measure.
        against: name of the zoo entry to compare with the release folder. None: do not compare.

    Raises:
        FileNotFoundError: `target` is not a zoo entry, a file or a folder.
        UserError: the zoo entry's file is not on this machine; `data` is given, but `target` is not a zoo entry; or
            `against` is given, but `target` is not a release folder.
    """
    path = Path(target)
    if against and not path.is_dir():
        raise UserError(f"--against needs a release folder, but {target} is not a folder")
    if table.is_name(target):
        entry = table.find(target)
        file = store.present(entry)
        if file is None:
            how = f"run basicsr zoo fetch {entry.name}" if entry.url and entry.sha256 else entry.how_to_get
            how = how or "install the package again"
            raise UserError(f"the weight file of {entry.name} is not on this machine; {how}")
        found = check_entry(entry, file)
        if data is not None and not found.faults:
            found.add(compare(entry, measure_entry(entry, file, data)))
        return found
    if data:
        raise UserError(
            f"--measure needs the name of a zoo entry, because the zoo's table has the expected scores; got {target}"
        )
    if path.is_dir():
        found = check_folder(path)
        if against:
            found.add(_compare_training(table.find(against), _read_released_means(path)))
        return found
    if path.is_file():
        return check_file(path)
    if path.name == target and not path.suffix:
        table.find(target)  # raises the error that suggests the nearest name
    raise FileNotFoundError(f"no zoo entry, file or folder has the name {target}")


def measure_entry(entry: Entry, path: Path, data: Path) -> dict[str, tuple[float, float]]:
    """Measure the weight file `path` of a zoo entry on Set5.

    `data` is the folder with the test sets. The result maps the set name to mean PSNR in dB and mean SSIM.
    """
    compat.require_basicsr()
    test_sets = find_sets(data, Protocol(entry.degradation, entry.scale), ("Set5",))
    means = mean_scores(measure_sets(entry.name, {"checkpoint": str(path)}, test_sets))
    return {name: (mean.psnr, mean.ssim) for name, mean in means.items()}


def read_means(path: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Read per_image.csv of a release. Return mean PSNR in dB and mean SSIM, keyed by model name and set name.

    Raises:
        UserError: the file lacks a column, or has a score that is not a finite number. A mean without this image could
            not be compared with other means.
    """
    collected: dict[str, dict[str, list[tuple[float, float]]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                own = collected.setdefault(row["model"], {}).setdefault(row["set"], [])
                values = float(row["psnr_db"]), float(row["ssim"])
                if not all(map(math.isfinite, values)):
                    raise ValueError(f"the image {row.get('image')} of {row['model']} has {values}")
                own.append(values)
    except (KeyError, TypeError, ValueError) as error:  # TypeError: a row with too few cells
        raise UserError(f"{path} lacks a column or has a score that is not a finite number: {error}") from error
    return {
        model: {dataset: tuple(np.mean(values, axis=0).tolist()) for dataset, values in own.items()}
        for model, own in collected.items()
    }


def check_file(path: Path) -> Verification:
    """Check a weight file: compare its hash with the file name, check the header, and build the network."""
    found = Verification()
    has_header = is_safetensors(path)
    if has_header:
        digest, named = hash_file(path), store.hash_in_name(path)
        if named and not digest.startswith(named):
            found.faults.append(f"the SHA-256 of the file must begin with {named}, as in the file name; it is {digest}")
        else:
            agrees = "agrees with the file name" if named else "was not compared, because the file name has no hash"
            found.good.append(f"SHA-256 {digest} {agrees}")
    try:
        net = load_model(path)
        if has_header:
            found.faults += _header_faults(path)
    except UserError as error:
        found.faults.append(str(error))
        return found
    parameters = sum(parameter.numel() for parameter in net.parameters())
    found.good.append(
        f"x{net.upscale} network of {parameters:,} parameters was built, and all its weights were loaded from the file"
    )
    return found


def _header_faults(path: Path) -> list[str]:
    header = read_header(path)
    network_g = header.get("network_g")
    if network_g is None:
        return ["the header has no network_g, so the network was built with assumed options, which may be wrong"]
    missing = [key for key in HAN_DEFAULTS if key not in network_g]
    faults = [f"network_g in the header lacks {', '.join(missing)}"] if missing else []
    stated, computed = header.get("normalisation"), normalisation(network_g)
    if stated not in (None, computed):
        faults.append(f"the normalisation in the header must be {computed}, to agree with network_g; got {stated}")
    return faults


def check_entry(entry: Entry, path: Path) -> Verification:
    """Check the weight file of a zoo entry, and compare the file with the zoo's table."""
    found = check_file(path)
    if hash_file(path) != entry.sha256:
        found.faults.append(f"the SHA-256 of the file must be {entry.sha256}, as in the zoo's table")
    if entry.size is not None and path.stat().st_size != entry.size:
        found.faults.append(
            f"the file must have {entry.size} bytes, as in the zoo's table; it has {path.stat().st_size}"
        )
    if found.faults:
        return found
    net = HAN(**entry.arguments)
    try:
        load_strict(net, read_checkpoint(path), entry.arguments)
    except UserError as error:
        found.faults.append(str(error))
    if sum(parameter.numel() for parameter in net.parameters()) != entry.parameters:
        found.faults.append(f"the network must have {entry.parameters:,} parameters, as in the zoo's table")
    return found


def check_folder(folder: Path) -> Verification:
    """Check that a release folder has exactly the files and hashes in SHA256SUMS, and check its weights.

    Raises:
        UserError: the folder has no SHA256SUMS.
    """
    found = Verification()
    sums = folder / SUMS
    if not sums.is_file():
        raise UserError(f"{folder} is not a release folder, because it does not contain {SUMS}")
    listed: dict[str, str] = {}
    for line in sums.read_text("utf-8").splitlines():
        match = _SUM.fullmatch(line)
        if not match or PurePosixPath(match["name"]).is_absolute() or ".." in PurePosixPath(match["name"]).parts:
            found.faults.append(f"each line of {SUMS} must have a SHA-256 and a file name; got {line}")
        else:
            listed[match["name"]] = match["sha256"]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {SUMS}
    found.faults += [f"{name} is in {SUMS} but not in the folder" for name in sorted(listed.keys() - there)]
    found.faults += [f"{name} is in the folder but not in {SUMS}" for name in sorted(there - listed.keys())]
    wrong = [name for name in sorted(there & listed.keys()) if hash_file(folder / name) != listed[name]]
    found.faults += [f"the hash of {name} differs from its hash in {SUMS}" for name in wrong]
    found.good.append(f"{len(there & listed.keys()) - len(wrong)} files have the hashes in {SUMS}")
    weights = [folder / name for name in sorted(there) if name.endswith(".safetensors")]
    if not weights:
        found.faults.append("the folder has no .safetensors file")
    for path in weights:
        found.add(check_file(path), f"{path.name}: ")
    return found


def compare(entry: Entry, got: dict[str, tuple[float, float]]) -> Verification:
    """Check `got` against the expected scores of an entry. `got` maps a set name to mean PSNR in dB and mean SSIM."""
    found = Verification()
    if not entry.expected:
        found.faults.append(f"cannot compare scores, because the zoo's table has no scores for {entry.name}")
    for expected in entry.expected:
        if expected.dataset not in got:
            continue
        psnr, ssim = got[expected.dataset]
        line = (
            f"{expected.dataset}: {psnr:.4f} dB / {ssim:.5f}, expected {expected.psnr:.4f} dB / {expected.ssim:.5f} "
            f"within {expected.tolerance_db} dB"
        )
        (found.faults if expected.differs(psnr, ssim) else found.good).append(line)
    if not found.good and not found.faults:
        found.faults.append(f"none of the test sets {', '.join(e.dataset for e in entry.expected)} was measured")
    return found


def _compare_training(entry: Entry, got: dict[str, tuple[float, float]]) -> Verification:
    """Compare a repeated training run with a zoo entry on all test sets. PSNR may differ by up to RETRAINED_DB."""
    expected = tuple(replace(e, tolerance_db=max(e.tolerance_db, RETRAINED_DB)) for e in entry.expected)
    found = compare(replace(entry, expected=expected), got)
    found.faults += [f"{e.dataset} was not measured" for e in expected if e.dataset not in got]
    return found


def _read_released_means(folder: Path) -> dict[str, tuple[float, float]]:
    means = read_means(folder / PER_IMAGE)
    own = [name for name in means if name != BICUBIC]
    if len(own) != 1:
        raise UserError(
            f"{folder / PER_IMAGE} must have exactly one model other than {BICUBIC}; it has {', '.join(own) or 'none'}"
        )
    return means[own[0]]
