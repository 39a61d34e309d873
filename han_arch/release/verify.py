"""Checks of weight files, entries and release folders; each gives the faults found, one line each."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.release import measure
from han_arch.release.publish import PER_IMAGE, SUMS
from han_arch.zoo import weight_file
from han_arch.zoo.entry import Entry
from han_arch.zoo.load import load_model, load_strict
from han_arch.zoo.recognise import HAN_DEFAULTS, read_checkpoint

# Of two trainings by one recipe that differ in rounding (another processor, other versions). About the standard
# deviation of three seeds on Set5 in the ablation, and seeds differ in more than rounding.
RETRAINED_DB = 0.05
_SUM = re.compile(r"(?P<sha256>[0-9a-f]{64}) [ *](?P<name>.+)")


@dataclass
class Findings:
    """What a check found: `good` and `faults`, in sentences."""

    good: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def check_file(path: Path) -> Findings:
    """A weight file: the hash that its name ends in, its header, and that its own network is built and filled.

    Raises:
        FileNotFoundError: no such file.
    """
    found = Findings()
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if path.suffix == ".safetensors":
        digest, named = weight_file.sha256(path), weight_file.hash_in_name(path)
        if named is None:
            found.good.append(f"sha256 {digest}; its name has no hash to compare")
        elif digest.startswith(named):
            found.good.append(f"sha256 {digest} is that of its name")
        else:
            found.faults.append(f"its name says the hash begins with {named}; it is {digest}")
    try:
        net = load_model(path)
        if path.suffix == ".safetensors":
            _check_header(path, found)
    except UserError as error:
        found.faults.append(str(error))
        return found
    parameters = sum(parameter.numel() for parameter in net.parameters())
    found.good.append(f"x{net.upscale} network of {parameters:,} parameters built and filled strictly")
    return found


def _check_header(path: Path, found: Findings) -> None:
    header = weight_file.read_header(path)
    network_g = header.get("network_g")
    if network_g is None:
        found.faults.append("its header has no network_g: what no shape tells was assumed")
        return
    missing = [key for key in HAN_DEFAULTS if key not in network_g]
    if missing:
        found.faults.append(f"network_g in its header lacks {', '.join(missing)}")
    if header.get("normalisation", weight_file.normalisation(network_g)) != weight_file.normalisation(network_g):
        found.faults.append(f"its header's normalisation {header['normalisation']} is not that of network_g")


def check_entry(entry: Entry, path: Path) -> Findings:
    """A present entry's file against the table."""
    found = check_file(path)
    if weight_file.sha256(path) != entry.sha256:
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
        found.faults.append(f"its network has not the table's {entry.parameters:,} parameters")
    return found


def check_folder(folder: Path) -> Findings:
    """A release folder: every file's hash, nothing missing, nothing more, and the weights."""
    found = Findings()
    sums = folder / SUMS
    if not sums.is_file():
        raise UserError(f"{folder} is no release folder: it has no {SUMS}")
    listed: dict[str, str] = {}
    for line in sums.read_text("utf-8").splitlines():
        match = _SUM.fullmatch(line)
        if not match or PurePosixPath(match["name"]).is_absolute() or ".." in PurePosixPath(match["name"]).parts:
            found.faults.append(f"{SUMS} has a line that is no hash and name: {line}")
        else:
            listed[match["name"]] = match["sha256"]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {SUMS}
    found.faults += [f"{name} is missing" for name in sorted(listed.keys() - there)]
    found.faults += [f"{name} is not in {SUMS}" for name in sorted(there - listed.keys())]
    wrong = [name for name in sorted(there & listed.keys()) if weight_file.sha256(folder / name) != listed[name]]
    found.faults += [f"{name} has another hash than {SUMS} says" for name in wrong]
    found.good.append(f"{len(there & listed.keys()) - len(wrong)} files have the hash of {SUMS}")
    weights = [folder / name for name in sorted(there) if name.endswith(".safetensors")]
    if not weights:
        found.faults.append("it has no .safetensors")
    for path in weights:
        own = check_file(path)
        found.good += [f"{path.name}: {line}" for line in own.good]
        found.faults += [f"{path.name}: {line}" for line in own.faults]
    return found


def compare(entry: Entry, got: dict[str, tuple[float, float]]) -> Findings:
    """Measured means (set -> PSNR in dB, SSIM) against what the table expects of these sets."""
    found = Findings()
    if not entry.expected:
        found.faults.append(f"nothing is expected of {entry.name}: no number of it was found or measured")
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


def compare_training(entry: Entry, got: dict[str, tuple[float, float]]) -> Findings:
    """The means of weights that were trained anew by the entry's recipe: every set, within `RETRAINED_DB`."""
    expected = tuple(replace(e, tolerance_db=max(e.tolerance_db, RETRAINED_DB)) for e in entry.expected)
    found = compare(replace(entry, expected=expected), got)
    found.faults += [f"{e.dataset} was not measured" for e in expected if e.dataset not in got]
    return found


def folder_means(folder: Path) -> dict[str, tuple[float, float]]:
    """The means of a release's own model, from its per-image table."""
    table = measure.read_means(folder / PER_IMAGE)
    own = [name for name in table if name != "Bicubic"]
    if len(own) != 1:
        raise UserError(f"{folder / PER_IMAGE} must have one model besides Bicubic; it has {', '.join(own) or 'none'}")
    return table[own[0]]
