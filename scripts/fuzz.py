"""Give the program thousands of hostile inputs, and check that none gives a traceback, a crash, a hang or a loss.

Kinds of input: see tests/fuzzing/kinds.py. The corpus in tests/fuzzing/corpus comes first, then inputs that --seed
determines. Worker processes take the inputs. A worker that crashes, takes over 30 s for one input or exceeds
the memory limit is replaced. Each finding is stored in the folder --out, with the command that repeats it.
The exit status is 1 if there is a finding.

--guided lets atheris change the bytes of single formats (see tests/fuzzing/guided.py). --shrink draws the inputs of one
kind with hypothesis, and makes the first finding as small as possible.

Examples:
  python scripts/fuzz.py
  python scripts/fuzz.py --kind images --kind lmdb --inputs 500 --seed 3
  python scripts/fuzz.py --kind images --seed 3 --only 17
  python scripts/fuzz.py --guided zip exif --minutes 6
  python scripts/fuzz.py --kind archives --inputs 500 --shrink
"""

import argparse
import contextlib
import json
import os
import queue
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
TESTS = REPOSITORY / "tests"
CORPUS = TESTS / "fuzzing" / "corpus"
MEMORY = 1_600_000_000  # bytes of resident memory of a worker; 650 MB of them are Python with PyTorch
ADDRESSES = 16_000_000_000  # bytes of address space of a worker
RESTART_AFTER = 1000  # inputs of one worker process, so that a leak is noticed as memory but does not add up for ever

sys.path.insert(0, str(TESTS))


@dataclass(frozen=True)
class Input:
    """One input: a kind with the index that determines it, or a file of the corpus."""

    kind: str
    index: int = 0
    file: str = ""

    @property
    def name(self) -> str:
        """The name of the input's folder."""
        return f"{self.kind}-{self.file or self.index}"


@dataclass
class Counts:
    """The outcomes so far, and the findings."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[tuple[Input, str]] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[int, str] = (0, "")


def main(argv: list[str] | None = None) -> int:
    """Run the inputs and print the counts; return 1 if there is a finding."""
    kinds = import_module("fuzzing.kinds")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--inputs", type=int, default=10_000, help="number of inputs, the corpus included (default: 10000)")
    add("--seed", type=int, default=0, help="seed of the inputs (default: 0)")
    add("--kind", action="append", metavar="KIND", choices=(*kinds.SHARES, kinds.SELF_TEST),
        help=f"kind of input: {', '.join(kinds.SHARES)}; repeatable (default: all)")  # fmt: skip
    add("--minutes", type=float, default=20, help="start no further input after this time (default: 20)")
    add("--only", type=int, metavar="INDEX", help="run only this input of --kind")
    add("--processes", type=int, default=2, help="number of worker processes (default: 2)")
    add("--out", type=Path, default=Path("fuzz"), help="folder for the findings (default: fuzz)")
    add("--longest", type=float, default=30, help="a longer time for one input is a hang, in seconds (default: 30)")
    add("--guided", nargs="*", metavar="FORMAT", help="mutate formats with atheris (default: all), in --minutes")
    add("--shrink", action="store_true", help="draw the inputs of one --kind with hypothesis; make a finding small")
    add("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        return work(args.seed)
    if args.guided is not None:
        guided = import_module("fuzzing.guided")
        if unknown := set(args.guided) - set(guided.FORMATS):
            parser.error(f"no such format: {', '.join(sorted(unknown))}; choose from {', '.join(guided.FORMATS)}")
        return int(guided.guide(args.guided or list(guided.FORMATS), 60 * args.minutes, args.seed, args.out.resolve()))
    chosen = {kind: kinds.SHARES.get(kind, 1) for kind in args.kind or kinds.SHARES}
    only = next(iter(chosen)) if len(chosen) == 1 else ""
    if not only and (args.shrink or args.only is not None):
        parser.error("--only and --shrink need one --kind")
    if args.shrink:
        shrink = import_module("fuzzing.shrunk").shrink
        return int(shrink(only, kinds.module(only), args.inputs, args.seed, args.out))
    return supervise(planned(chosen, args.inputs) if args.only is None else [Input(only, args.only)], args)


def planned(shares: dict[str, int], count: int) -> list[Input]:
    """Return the inputs of all kinds, well mixed, with the corpus first."""
    found = [
        Input(path.parent.name, file=path.name) for path in sorted(CORPUS.glob("*/*")) if path.parent.name in shares
    ]
    done = Counter[str]()
    while len(found) < count:
        # The kind that is furthest behind its share is next.
        kind = min(shares, key=lambda one: (done[one] + 1) / shares[one])
        found.append(Input(kind, done[kind]))
        done[kind] += 1
    return found[:count]


def supervise(inputs: list[Input], args: argparse.Namespace) -> int:
    """Hand the inputs to worker processes, and print the counts; return the exit status."""
    began, waiting, counts = time.monotonic(), queue.SimpleQueue[Input](), Counts()
    for one in inputs:
        waiting.put(one)
    lock, stopped = threading.Lock(), threading.Event()
    with (
        tempfile.TemporaryDirectory(prefix="fuzz_") as folder,
        tqdm(total=len(inputs), unit="input", desc="fuzz", disable=None, dynamic_ncols=True) as bar,
    ):

        def drive(number: int) -> None:
            with Worker(args.seed, args.longest, Path(folder, f"worker{number}")) as worker:
                while not stopped.is_set() and time.monotonic() - began < 60 * args.minutes:
                    try:
                        one = waiting.get_nowait()
                    except queue.Empty:
                        return
                    place = Path(folder, one.name)
                    answer = worker.answer(one, place)
                    with lock:
                        note(counts, one, answer, place, args)
                        bar.update()
                    shutil.rmtree(place, ignore_errors=True)

        threads = [threading.Thread(target=drive, args=(number,)) for number in range(args.processes)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:  # after Ctrl-C, each worker ends with its input
            stopped.set()
            for thread in threads:
                thread.join()
    done, seconds = counts.outcomes.total(), time.monotonic() - began
    for (kind, outcome), count in sorted(counts.outcomes.items()):
        print(f"{kind:12} {count:6}  {outcome}")
    print(f"{done} of {len(inputs)} inputs in {seconds:.0f} s, seed {args.seed}, {args.processes} workers")
    print(f"slowest: {counts.slowest[0]:.1f} s ({counts.slowest[1]})")
    print(f"most memory: {counts.largest[0] / 1e6:.0f} MB ({counts.largest[1]})")
    for one, text in counts.findings:
        print(f"FINDING {one.name}: {text.strip().splitlines()[-1][:200]}")
    if counts.findings:
        print(f"FAILED: {len(counts.findings)} findings; see {args.out}")
    elif not done:
        print("FAILED: no input was run")
    else:
        print("PASSED: no traceback, no crash, no hang, nothing lost and nothing half-written")
    return 1 if counts.findings or not done else 0


def note(counts: Counts, one: Input, answer: dict[str, Any], place: Path, args: argparse.Namespace) -> None:
    """Count an outcome. Store a finding: the input, the text, and the command that repeats it."""
    counts.slowest = max(counts.slowest, (answer.get("seconds", 0.0), one.name))
    counts.largest = max(counts.largest, (answer.get("peak", 0), one.name))
    if "finding" not in answer:
        counts.outcomes[one.kind, answer["outcome"]] += 1
        return
    counts.outcomes[one.kind, "FINDING"] += 1
    counts.findings.append((one, answer["finding"]))
    kept = args.out / one.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(kept, ignore_errors=True)
    with contextlib.suppress(OSError):
        shutil.copytree(place, kept, symlinks=True)
    kept.mkdir(exist_ok=True)
    repeat = "--inputs 1" if one.file else f"--only {one.index}"
    command = f"python scripts/fuzz.py --kind {one.kind} --seed {args.seed} {repeat}"
    (kept / "finding.txt").write_text(f"{command}\n\n{answer['finding']}\n", "utf-8")


class Worker:
    """A process that takes one input after the other. After a crash, a hang or too much memory, it is replaced."""

    def __init__(self, seed: int, longest: float, folder: Path) -> None:
        folder.mkdir()
        self.seed, self.longest, self.folder, self.done = seed, longest, folder, 0
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> subprocess.Popen[str]:
        """Start the process; its own output goes to a file, so that it cannot disturb the answers."""
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "HAN_ARCH_CACHE": str(self.folder / "cache"),
            "TMPDIR": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(TESTS), os.environ.get("PYTHONPATH", "")]),
        }  # fmt: skip
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), "--worker", "--seed", str(self.seed)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True, env=environment,
                cwd=self.folder, start_new_session=True,
            )  # fmt: skip

    def stop(self) -> None:
        """Kill the process and all processes that it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()
            self.process = None

    def answer(self, one: Input, place: Path) -> dict[str, Any]:
        """Run one input; return its outcome or its finding."""
        if self.done >= RESTART_AFTER:
            self.stop()
        if self.process is None:
            self.process, self.done = self.start(), 0
        self.done += 1
        assert self.process.stdin is not None  # noqa: S101 - a pipe
        try:
            self.process.stdin.write(json.dumps([one.kind, one.index, one.file, str(place)]) + "\n")
            self.process.stdin.flush()
            answer, fault = self.wait(self.longest)
        except BrokenPipeError:
            answer, fault = "", "crash"
        if answer:
            return dict(json.loads(answer))
        if fault == "crash":
            fault = f"crash: the process ended with status {self.process.wait()}"
        self.stop()
        tail = (self.folder / "output.txt").read_bytes()[-2000:].decode("utf-8", "replace")
        return {"finding": f"{tail}\n{fault}"}

    def wait(self, seconds: float) -> tuple[str, str]:
        """Return the next line of the process and an empty text, or an empty line and what went wrong."""
        assert self.process is not None  # noqa: S101
        assert self.process.stdout is not None  # noqa: S101 - a pipe
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if select.select([self.process.stdout], [], [], 0.1)[0]:
                line = self.process.stdout.readline()
                return line, "" if line else "crash"
            if (used := resident(self.process.pid)) > MEMORY:
                return "", f"memory: the process has {used / 1e6:.0f} MB, more than {MEMORY / 1e6:.0f} MB"
        return "", f"hang: no result after {seconds:.0f} s"


def resident(pid: int, peak: bool = False) -> int:
    """Return the resident memory of a process in bytes, or its peak; 0 if the process has ended."""
    name = "VmHWM:" if peak else "VmRSS:"
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0


def work(seed: int) -> int:
    """Run the inputs that the supervisor names on standard input; answer each with a line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not disturb the answers
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        kind, index, file, place = json.loads(line)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak memory begins anew
        began = time.monotonic()
        answer = examine(Input(kind, index, file), Path(place), seed)
        answer["seconds"], answer["peak"] = time.monotonic() - began, resident(os.getpid(), peak=True)
        if answer["peak"] > MEMORY:
            answer.setdefault("finding", f"memory: {answer['peak'] / 1e6:.0f} MB, more than {MEMORY / 1e6:.0f} MB")
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


def examine(one: Input, place: Path, seed: int) -> dict[str, Any]:
    """Make an input below `place`, give it to the program, and return its outcome or its finding."""
    kinds, trial = import_module("fuzzing.kinds"), import_module("fuzzing.trial")
    source, out = place / "input", place / "output"
    source.mkdir(parents=True)
    out.mkdir()
    module = kinds.module(one.kind)
    try:
        if one.file:
            path = source / one.file
            (shutil.copytree if (CORPUS / one.kind / one.file).is_dir() else shutil.copy)(
                CORPUS / one.kind / one.file, path
            )
        else:
            path = module.hostile(trial.generator(seed, one.kind, one.index), source)
        return {"outcome": module.check(path, out)}
    except trial.Finding as finding:
        return {"finding": str(finding)}
    except Exception as error:  # a fault of the test program itself
        return {"finding": f"in the test program: {trial.last_lines(error)}"}


if __name__ == "__main__":
    sys.exit(main())
