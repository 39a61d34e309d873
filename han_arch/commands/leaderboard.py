"""The command `basicsr leaderboard`."""

import argparse
from pathlib import Path

from han_arch import compat, locks
from han_arch.commands import add_option_file, say, warn
from han_arch.errors import UserError
from han_arch.evaluation import board, contestants, outputs, page, rows
from han_arch.evaluation import run as board_run
from han_arch.evaluation.score import ScoreCache
from han_arch.opt import read
from han_arch.training import start

EXAMPLES = """examples:
  basicsr leaderboard -opt options/leaderboard_x4.yml
  basicsr leaderboard -opt leaderboard_x4 --force_yml 'variants=[full]' num_gpu=0

The command writes results.csv, per_image.csv, README.md and index.html to the folder results/NAME. NAME is the option
`name` of the option file. The subfolder cache stores all scores. After an interruption, run the same command again: it
continues where it stopped. If you add a model to the option file, the next run measures only this model."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.epilog = EXAMPLES
    add_option_file(parser, "options to replace, with their values, for example cost:repeat=20")
    parser.add_argument(
        "-o", "--out", type=Path, help="folder for the results (default: results/NAME, where NAME is the option `name`)"
    )


def run(args: argparse.Namespace) -> int:
    """Check the option file, measure the contestants, and write the results; return 0, or 1 if an image failed.

    Raises:
        UserError: the option file, a test set or a contestant has a fault; another process measures this leaderboard;
            or the user wrote or edited a file that the results would replace.
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
    with locks.held(cache.folder, f"the leaderboard {checked.name}"):
        outputs.check(folder, (*rows.FILES, page.FILE))
        results = board_run.run(checked, cache, _warn)
        text = rows.write(folder, checked.name, results, checked.baseline)
        try:
            page.write(folder, checked, results, cache)
        except UserError as error:  # all other files are already written
            _warn(f"index.html was not written: {error}")
    say(*text.splitlines(), "", f"the results were written to {folder}")
    failures = board_run.list_failures(results)
    for line in failures:
        _warn(line)
    return 1 if failures else 0


def _warn(line: str) -> None:
    warn(f"basicsr leaderboard: {line}")
