"""`basicsr zoo verify`."""

import argparse
import sys
from pathlib import Path

from han_arch.errors import UserError
from han_arch.release import verify
from han_arch.release.verify import Findings
from han_arch.zoo import entry as entries
from han_arch.zoo import store

DESCRIPTION = """Check weights: the hash, the header, and that the network it describes is built and filled strictly; of
an entry also that the table says the same. Without a target: every entry whose file is in the package or the cache. A
target may be an entry's name, a file, or a release folder, of which every file's hash is checked."""
EXAMPLES = """examples:
  basicsr zoo verify
  basicsr zoo verify han-s-x4 --measure datasets
  basicsr zoo verify release/han-s-x4 --against han-s-x4

Exit status 0: all is as it should be; 1: something is not, and is named."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("targets", metavar="NAME|FILE|FOLDER", nargs="*", help="what to check (default: every entry that is here)")
    add("--measure", metavar="DATA", type=Path,
        help="folder with Set5/HR or Set5/GT_xSCALE: run the entry's network on it, and compare")  # fmt: skip
    add("--against", metavar="NAME", help="compare a release folder's results with this entry's: all sets, within "
        f"{verify.RETRAINED_DB} dB, since another training rounds differently")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print what was found of each target; 1 when something is wrong."""
    faults = 0
    targets = args.targets or [entry.name for entry in entries.ENTRIES if store.present(entry)]
    if not targets:
        sys.stdout.write("no weight is in the package or the cache; name a file or a folder\n")
    for target in targets:
        findings = _check(target, args)
        sys.stdout.write(f"{target}\n")
        sys.stdout.write("".join(f"  {line}\n" for line in findings.good))
        sys.stdout.write("".join(f"  WRONG: {line}\n" for line in findings.faults))
        faults += len(findings.faults)
    if args.targets or targets:
        sys.stdout.write(f"{faults} wrong\n" if faults else "all is right\n")
    return 1 if faults else 0


def _check(target: str, args: argparse.Namespace) -> Findings:
    if args.against and not Path(target).is_dir():
        raise UserError(f"--against needs a release folder, whose results it compares; got {target}")
    if entries.is_name(target):
        return _check_name(target, args.measure)
    if args.measure:
        raise UserError(f"--measure needs an entry's name, whose numbers the table has; got {target}")
    path = Path(target)
    if path.is_dir():
        found = verify.check_folder(path)
        if args.against:
            numbers = verify.compare_training(entries.find(args.against), verify.folder_means(path))
            found.good += numbers.good
            found.faults += numbers.faults
        return found
    if path.is_file():
        return verify.check_file(path)
    if path.name == target and not path.suffix:
        entries.find(target)  # raises, with close names
    raise FileNotFoundError(f"no entry, file or folder {target}")


def _check_name(name: str, data: Path | None) -> Findings:
    entry = entries.find(name)
    path = store.present(entry)
    if path is None:
        how = f"basicsr zoo fetch {name}" if entry.url and entry.sha256 else entry.how_to_get
        raise UserError(f"{name} is not here; {how}")
    found = verify.check_entry(entry, path)
    if data is not None and not found.faults:
        from han_arch import compat  # BasicSR's metrics, which the rest does without

        compat.require_basicsr()
        from han_arch.evaluation.protocol import Protocol
        from han_arch.release import measure

        sets = measure.find_sets(data, Protocol(entry.degradation, entry.scale), ("Set5",))
        scores = measure.means(measure.measure(measure.load(name, path, entry.scale), sets))
        numbers = verify.compare(entry, {key: (score.psnr, score.ssim) for key, score in scores.items()})
        found.good += numbers.good
        found.faults += numbers.faults
    return found
