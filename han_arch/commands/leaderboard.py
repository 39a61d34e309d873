"""`basicsr leaderboard`."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from han_arch import compat
from han_arch.errors import UserError
from han_arch.evaluation import board, gallery, page, rows
from han_arch.evaluation import metrics as perceptual
from han_arch.evaluation import run as board_run
from han_arch.evaluation.score_cache import ScoreCache
from han_arch.opt import read, shipped
from han_arch.training import start

EXAMPLES = """examples:
  basicsr leaderboard -opt options/leaderboard_x4.yml
  basicsr leaderboard -opt leaderboard_x4 --force_yml 'variants=[full]' num_gpu=0

Writes results.csv, per_image.csv, README.md and index.html to results/NAME under the current folder. What was measured
before is kept in its cache folder: an interrupted board continues, and a new model alone is measured."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument("-opt", required=True, metavar="FILE", help="option file: a path, or a shipped name")
    parser.add_argument("-o", "--out", type=Path, help="folder for the results (default: results/NAME)")
    parser.add_argument(
        "--force_yml", nargs="+", default=[], metavar="KEY:KEY=VALUE", help="change options, e.g. cost:repeat=20"
    )


def run(args: argparse.Namespace) -> int:
    """Check, measure, write.

    Raises:
        UserError: something is wrong with the option file, a set or a model; nothing was measured then.
    """
    compat.require_basicsr()
    start.load_plugins()
    options = read.read(shipped.find(args.opt))
    read.override(options, args.force_yml)
    resolve_experiments(options.get("models"))
    checked = board.check(options)
    folder = args.out or Path("results") / checked.name
    folder.mkdir(parents=True, exist_ok=True)
    cache = ScoreCache(folder / "cache")
    metrics, notes = perceptual.load(checked.perceptual, checked.device)
    for note in notes:
        sys.stderr.write(f"basicsr leaderboard: {note}\n")
    results = perceptual.add(board_run.run(checked, cache), metrics, checked.sets, cache)
    text = rows.markdown(checked.name, results, checked.baseline)
    _write(folder / "results.csv", rows.results_csv(results))
    _write(folder / "per_image.csv", rows.per_image_csv(results))
    _write(folder / "README.md", text)
    write_page(folder, checked, results, cache)
    sys.stdout.write(text + f"\nwritten: {folder}\n")
    return 0


def resolve_experiments(models: Any) -> None:
    """Put checkpoint and network_g in the place of `experiment: FOLDER` (of `basicsr train`) in a file's models.

    Raises:
        UserError: a folder is not there, or has no option file or no weights; one line for each.
    """
    faults = []
    for name, model in models.items() if isinstance(models, Mapping) else ():
        if isinstance(model, dict) and "experiment" in model:
            try:
                model |= _experiment(Path(str(model.pop("experiment"))).expanduser(), model)
            except UserError as error:
                faults.append(f"{name}: {error}")
    if faults:
        raise UserError("\n  ".join(["experiments that cannot be measured:", *faults]))


def _experiment(folder: Path, model: Mapping[str, Any]) -> dict[str, Any]:
    if not folder.is_dir():
        raise UserError(f"no folder {folder} (looked for from {Path.cwd()}); train it, or take the model out")
    # BasicSR copies the option file into the experiment.
    files = sorted(folder.glob("*.yml"))
    if len(files) != 1:
        raise UserError(f"{folder} must hold the one option file of its training; it has {len(files)}")
    network_g = read.read(files[0]).get("network_g")
    checkpoint = folder / "models" / "net_g_latest.pth"
    if "checkpoint" not in model and not checkpoint.is_file():
        raise UserError(f"{checkpoint} does not exist: the training has not ended; name a `checkpoint` besides")
    return {"checkpoint": str(checkpoint), "network_g": network_g, **model}


def write_page(folder: Path, checked: board.Board, results: Sequence[board_run.Result], cache: ScoreCache) -> None:
    """Write index.html with its crops; without plotly, a line to stderr instead."""
    shown = [result for result in results if result.protocol.grey == checked.protocol.grey]
    candidates = [
        gallery.Candidate(result.label, result.dataset, image, key, result.scores[image].cell)
        for result in shown
        for image, key in result.pictures.items()
    ]
    crops = gallery.make(checked.gallery, checked.sets, candidates, cache)
    try:
        _write(folder / "index.html", page.page(checked.name, checked.baseline, results, crops))
    except UserError as error:  # everything else has been written
        sys.stderr.write(f"basicsr leaderboard: no page: {error}\n")


def _write(path: Path, text: str) -> None:
    beside = path.with_suffix(".tmp")
    beside.write_text(text, "utf-8")
    os.replace(beside, path)
