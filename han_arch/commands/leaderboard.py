"""`basicsr leaderboard`."""

import argparse
import sys
from pathlib import Path

from han_arch import compat
from han_arch.errors import UserError
from han_arch.evaluation import board, contestants, page, rows
from han_arch.evaluation import run as board_run
from han_arch.evaluation.score import ScoreCache
from han_arch.opt import read
from han_arch.training import start

EXAMPLES = """examples:
  basicsr leaderboard -opt options/leaderboard_x4.yml
  basicsr leaderboard -opt leaderboard_x4 --force_yml 'variants=[full]' num_gpu=0

Writes results.csv, per_image.csv, README.md and index.html to results/NAME under the current folder. Its cache folder
keeps every measurement: an interrupted board continues, and only a new contestant is measured."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument("-opt", required=True, metavar="FILE", help="option file: a path, or a shipped name")
    parser.add_argument("-o", "--out", type=Path, help="folder for the results (default: results/NAME)")
    parser.add_argument(
        "--force_yml", nargs="+", default=[], metavar="KEY:KEY=VALUE", help="change options, e.g. cost:repeat=20"
    )


def run(args: argparse.Namespace) -> int:
    """Check the option file, measure the contestants, write the results.

    Raises:
        UserError: a fault in the option file, a set or a contestant; nothing was measured then.
    """
    compat.require_basicsr()
    start.load_plugins()
    options = read.read(args.opt)
    read.override(options, args.force_yml)
    models = contestants.with_experiments(options.get("models"), read.read)
    checked = board.load({**options, "models": models})
    folder = args.out or Path("results") / checked.name
    folder.mkdir(parents=True, exist_ok=True)
    cache = ScoreCache(folder / "cache")
    results = board_run.run(checked, cache, _warn)
    text = rows.write(folder, checked.name, results, checked.baseline)
    try:
        page.write(folder, checked, results, cache)
    except UserError as error:  # everything else has been written
        _warn(f"no page: {error}")
    sys.stdout.write(text + f"\nwritten: {folder}\n")
    return 0


def _warn(line: str) -> None:
    sys.stderr.write(f"basicsr leaderboard: {line}\n")
