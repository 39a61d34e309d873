"""Disturb training runs in many ways, and compare their final files with those of an undisturbed run.

--kind selects the disturbances; the default is kills:

  kills      SIGKILL at random iterations; every third kill falls into the writing of a checkpoint
  twice      a second training of the same name starts, at the same moment or later: it must be refused
  full_disk  a file system that is full at a random moment, or a limit on the size of a file; then the run is resumed
  processes  the run is continued by 2 processes, then by 1, with the same batch over all processes

After kills, twice and full_disk, all files must be equal to the bit. After processes, the losses and the weights must
be equal except for rounding. --minutes repeats all kinds in turn until the time is over, each round with another seed.
--seed determines the training data and the random choices; the exact times of the kills also depend on the machine.
The exit status is 1 if a run differs, or if it was killed fewer than --kills times.

Examples:
  python scripts/soak.py
  python scripts/soak.py --kills 20 --iterations 120 --workers 2
  python scripts/soak.py --kind full_disk --iterations 30
  python scripts/soak.py --minutes 60
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import soak_runs as runs
import torch
from soak_runs import EXPERIMENT, SAVE_EVERY, Failed, Setting
from tqdm import tqdm

LONGEST_START = 120  # seconds after which a run is killed in any case
LIKE_ROUNDING = 1e-6  # largest relative distance of the weights after a change of the number of processes
ROUND = Setting(iterations=60)  # the runs of --minutes
KILLS_A_ROUND = 6


@dataclass
class Counts:
    """What was done to the runs, such as "kills": 20, and the differences that were found."""

    done: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    resumed_at: list[int] = field(default_factory=list)  # iteration of the training state after each kill


def main() -> int:
    """Run the soak test; return 0 if all runs are equal and one was killed --kills times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--kind", choices=tuple(KINDS), default="kills", help="what disturbs the runs (default: kills)")
    add("--minutes", type=float, help="repeat all kinds until this time is over")
    add("--kills", type=int, default=20, help="number of times that the run is killed (default: 20)")
    add("--iterations", type=int, default=100, help="number of training iterations (default: 100)")
    add("--workers", type=int, default=0, help="number of processes that load the training data (default: 0)")
    add("--seed", type=int, default=0, help="seed of the data and of the times at which the run is killed (default: 0)")
    add("--out", type=Path, help="empty or new folder for the runs (default: a temporary folder)")
    args = parser.parse_args()
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        if any(args.out.iterdir()):
            parser.error(f"--out must be an empty or new folder; {args.out} is not empty")
        return soak(args.out.resolve(), args)
    with tempfile.TemporaryDirectory(prefix="soak_") as folder:
        return soak(Path(folder), args)


def soak(folder: Path, args: argparse.Namespace) -> int:
    """Disturb the runs, compare them and print the result; return the exit status."""
    began, counts = time.monotonic(), Counts()
    if args.minutes is None:
        attempt(args.kind, folder, Setting(args.iterations, args.workers, args.seed), args.kills, counts)
    else:
        number = 0
        while time.monotonic() - began < 60 * args.minutes:
            for kind in KINDS:
                if time.monotonic() - began < 60 * args.minutes:
                    place = folder / f"{number}_{kind}"
                    setting = Setting(ROUND.iterations, 2 * (number % 2), args.seed + number)
                    known = len(counts.differences)
                    attempt(kind, place, setting, KILLS_A_ROUND, counts)
                    counts.done["rounds of " + kind] += 1
                    print(f"{time.monotonic() - began:6.0f} s  {kind}: {len(counts.differences) - known} differences")
                    if len(counts.differences) == known:
                        shutil.rmtree(place)
            number += 1
    few = args.minutes is None and args.kind == "kills" and counts.done["kills"] < args.kills
    if args.minutes is None and args.kind == "kills":
        print(
            f"killed {counts.done['kills']} times, {counts.done['kills inside a save']} of them while a file was "
            f"written; {args.workers} workers, {args.iterations} iterations; resumed at iterations "
            f"{', '.join(map(str, counts.resumed_at))}"
        )
    else:
        print(*(f"{count:5}  {what}" for what, count in sorted(counts.done.items())), sep="\n")
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {time.monotonic() - began:.0f} s")
    print("".join(f"DIFFERENT: {difference}\n" for difference in counts.differences), end="")
    if few:
        print(f"FAILED: the run was killed only {counts.done['kills']} times before it finished; increase --iterations")
    if counts.differences:
        print("FAILED: the runs differ")
    elif args.minutes is None and args.kind == "processes":
        print("PASSED: the losses and the weights are equal except for rounding")
    else:
        print("PASSED: all checkpoints and CSV files of both runs are equal to the bit")
    return 1 if counts.differences or few else 0


def attempt(kind: str, folder: Path, setting: Setting, kills: int, counts: Counts) -> None:
    """Disturb one run, and add what was done and what differs to the counts."""
    try:
        reference, disturbed = (runs.make_run(folder / name, setting) for name in ("left_alone", "disturbed"))
        runs.finish(reference)
        KINDS[kind](disturbed, reference, setting, kills, counts)
        if kind != "processes":
            counts.differences += [
                f"{kind}: {line}" for line in runs.compare(disturbed, reference, stopped=kind == "twice")
            ]
    except Failed as error:
        counts.differences.append(f"{kind}: {error}")


def kill_often(folder: Path, reference: Path, setting: Setting, kills: int, counts: Counts) -> None:
    """Kill the run many times, and resume it each time."""
    moments, before = random.Random(setting.seed), counts.done["kills"]
    for index in tqdm(range(kills), desc="kills", unit="kill", disable=None):
        kill_once(folder, moments, kills - index, index % 3 == 2, setting, counts)
    counts.resumed_at.append(runs.newest_state(folder))
    if counts.done["kills"] == before:
        raise Failed("the run was never killed")
    runs.finish(folder)


def kill_once(
    folder: Path, moments: random.Random, left: int, aim_at_save: bool, setting: Setting, counts: Counts
) -> None:
    """Resume the training. Kill it after a random number of iterations, or while it writes a checkpoint."""
    newest = runs.newest_state(folder)
    step = max(1, (setting.iterations - newest) // (left + 1))
    target = newest + moments.randint(1, max(1, min(2 * step, 2 * SAVE_EVERY)))
    pause = moments.uniform(0, 0.05)
    counts.resumed_at.append(newest)
    parts_before, rows_before = set(runs.half_written(folder)), runs.inode_of_rows(folder)
    process = runs.start(folder)
    deadline = time.monotonic() + LONGEST_START
    while process.poll() is None and time.monotonic() < deadline:
        if aim_at_save:
            if set(runs.half_written(folder)) - parts_before:
                break
        elif runs.inode_of_rows(folder) != rows_before and runs.last_row(folder) >= target:
            time.sleep(pause)
            break
        time.sleep(0.0002 if aim_at_save else 0.005)
    if process.poll() is not None:
        return runs.check_status(process.returncode, folder)
    process.kill()
    process.wait()
    counts.done["kills"] += 1
    counts.done["kills inside a save"] += bool(set(runs.half_written(folder)) - parts_before)


def start_twice(folder: Path, reference: Path, setting: Setting, kills: int, counts: Counts) -> None:
    """Start a second training of the same name: at the same moment, or while the first one trains."""
    for at_once in (True, False):
        first = runs.start(folder)
        if not at_once:
            wait_for(first, folder, runs.newest_state(folder) + 1)
        second = runs.start(folder)
        while first.poll() is None and second.poll() is None:
            time.sleep(0.01)
        refused, running = (first, second) if first.poll() is not None else (second, first)
        if refused.returncode == 0 and refused is first:  # it ended before the second one asked for the lock
            runs.check_status(running.wait(), folder)
            counts.done["second trainings after the first"] += 1
        else:
            runs.check_status(refused.wait(), folder, wanted=2)
            text = runs.output_of(folder)
            if f"process {running.pid}" not in text or "Traceback" in text:
                raise Failed(f"the refusal must name the process {running.pid}:\n{text[-3000:]}")
            counts.done["second trainings refused"] += 1
            if at_once:  # stop the training, so that the next pair resumes it
                running.send_signal(signal.SIGTERM)
            status = running.wait()
            if not at_once or status != -signal.SIGTERM:  # before and after its work, a signal ends Python itself
                runs.check_status(status, folder, wanted=3 if at_once and status else 0)
    if [path.name for path in (folder / EXPERIMENT.parent).iterdir() if not path.name.startswith(".")] != ["soak"]:
        raise Failed(
            f"the second training renamed the first one's folder: {sorted((folder / 'experiments').iterdir())}"
        )


def fill_the_disk(folder: Path, reference: Path, setting: Setting, kills: int, counts: Counts) -> None:
    """Let the run end on a full disk, several times; then resume it with enough space."""
    moments = random.Random(setting.seed)
    size = max(path.stat().st_size for path in (reference / EXPERIMENT).rglob("*.state"))
    total = sum(path.stat().st_size for path in reference.rglob("*") if path.is_file())
    for limit in (moments.randint(size // 3, size - 1), moments.randint(4000, size // 3)):
        status = runs.start(folder, file_limit=limit).wait()
        check_refusal(status, folder, counts, "limits on the size of a file")
    if can_mount():
        for share in (0.35, 0.6):
            status = on_small_disk(folder, int(total * share * moments.uniform(0.9, 1.1)))
            check_refusal(status, folder, counts, "full file systems")
    runs.finish(folder)


def check_refusal(status: int, folder: Path, counts: Counts, what: str) -> None:
    """Check that a run on a full disk ended with one line and left nothing half-written."""
    text = runs.output_of(folder)
    if status == 0:  # the space was enough
        counts.done[f"{what} that did no harm"] += 1
        return
    runs.check_status(status, folder, wanted=2)
    if "Traceback" in text or "Logging error" in text or "basicsr train: error:" not in text:
        raise Failed(f"a full disk must be one line:\n{text[-3000:]}")
    if left := runs.half_written(folder):
        raise Failed(f"half-written after a full disk: {left}")
    counts.done[what] += 1


ON_SMALL_DISK = """
mkdir "$1/small" && mount -t tmpfs -o size="$2" tmpfs "$1/small" || exit 99
(cd "$1" && tar cf - --exclude=./small .) | tar xf - -C "$1/small" || exit 98
cd "$1/small"
"$3" -m han_arch train -opt soak.yml --auto_resume >> "$1/output.txt" 2>&1
status=$?
rm -rf "$1/experiments" && cp -r "$1/small/experiments" "$1/experiments" || exit 97
exit $status
"""


def can_mount() -> bool:
    """Return whether this user can mount a small file system in a name space of its own."""
    if shutil.which("unshare") is None:
        return False
    test = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt"]
    return subprocess.run(test, capture_output=True).returncode == 0


def on_small_disk(folder: Path, size: int) -> int:
    """Resume the run in a copy on a file system of `size` bytes, and copy the result back; return the exit status."""
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    blocks = 4096 * sum(1 for _ in folder.rglob("*"))
    command = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        ON_SMALL_DISK,
        "sh",
        str(folder),
        str(used + blocks + size),
        sys.executable,
    ]
    status = subprocess.run(command).returncode
    (folder / "small").rmdir()
    if status in (97, 98, 99):
        raise Failed(f"could not use a small file system (step {100 - status})")
    return status


def change_processes(folder: Path, reference: Path, setting: Setting, kills: int, counts: Counts) -> None:
    """Continue the run with 2 processes, then with 1; compare the losses and the weights with those of 1 process."""
    third = setting.iterations // 3
    for processes, until in ((1, third), (2, 2 * third), (1, setting.iterations)):
        changes = ("--force_yml", f"train:total_iter={until}")
        runs.check_status(runs.start(folder, *changes, processes=processes).wait(), folder)
    counts.done["changes of the number of processes"] += 2
    for one, other in zip(runs.rows(folder), runs.rows(reference), strict=True):
        loss = [float(row["l_pix"]) for row in (one, other)]
        if abs(loss[0] - loss[1]) > 1e-4 * abs(loss[1]):  # other samples change the loss by percents
            counts.differences.append(f"processes: the loss of iteration {one['iter']} is {loss[0]}, not {loss[1]}")
    found = runs.distance(folder, reference)
    print(f"relative distance of the weights after 1, 2 and 1 processes: {found:.1e}")
    if found > LIKE_ROUNDING:
        counts.differences.append(f"processes: the weights differ by {found:.1e}, more than {LIKE_ROUNDING:.0e}")


def wait_for(process: "subprocess.Popen[bytes]", folder: Path, iteration: int) -> None:
    """Wait until train.csv has an iteration."""
    deadline = time.monotonic() + LONGEST_START
    while runs.last_row(folder) < iteration and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


KINDS: dict[str, Callable[[Path, Path, Setting, int, Counts], None]] = {
    "kills": kill_often,
    "twice": start_twice,
    "full_disk": fill_the_disk,
    "processes": change_processes,
}


if __name__ == "__main__":
    sys.exit(main())
