"""`basicsr zoo reproduce`."""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from han_arch.release import reproduce
from han_arch.zoo import entry as entries

DESCRIPTION = """Print the commands that lead from photos to a weight's numbers, to be run in one folder, or run them.
The training takes hours; stopped at any moment, the same command goes on where it was. On another machine or with
other versions the weights differ in their last digits, and so, a little, the numbers."""
EXAMPLES = """examples:
  basicsr zoo reproduce han-s-x4
  basicsr zoo reproduce han-s-x4 --photos bsds400 --benchmarks benchmarks --run

Exit status of --run: that of the first command that fails, else 0."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("name", metavar="NAME", help="an entry that was trained here")
    add("--photos", type=Path, default=Path("photos"), help="folder of the training photos (default: %(default)s)")
    add("--benchmarks", type=Path, default=Path("benchmarks"),
        help="folder with Set5/HR, Set14/HR and B100/HR (default: %(default)s)")  # fmt: skip
    add("-o", "--out", type=Path, help="release folder to make (default: release/NAME)")
    add("--run", action="store_true", help="run the commands instead of only printing them")


def run(args: argparse.Namespace) -> int:
    """Print the commands, and with --run run each after it is printed."""
    entry = entries.find(args.name)
    release = args.out or Path("release") / entry.name
    for step in reproduce.steps(entry, args.photos, args.benchmarks, release):
        sys.stdout.write(f"# {step.why}\n{shlex.join(['basicsr', *step.words])}\n")
        sys.stdout.flush()
        if args.run:
            status = _run_apart(step.words)
            if status:
                return status
    return 0


def _run_apart(words: tuple[str, ...]) -> int:
    """Run a command in a process of its own: a training leaves threads and registries behind."""
    return subprocess.run([sys.executable, "-m", "han_arch", *words], check=False).returncode
