"""Write docs/model_zoo.md from the zoo's table and the result files beside it; `--check` only compares.

Examples:
  python scripts/make_model_zoo.py --add release/han-s-x4
  python scripts/make_model_zoo.py
  python scripts/make_model_zoo.py --check

`--add` copies a release to docs/model_zoo/NAME, without its weights, SR images and hashes.
"""

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import ablation_tables

from han_arch.errors import UserError
from han_arch.evaluation.rows import markdown_table
from han_arch.release.publish import CARD, CURVES, ROW
from han_arch.release.verify import PER_IMAGE, SUMS, read_means
from han_arch.zoo.entry import ENTRIES, FOUND, MEASURED, Entry

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOLDER = "model_zoo"  # beside the page
READING = "reading.md"  # conclusions from the ablation's tables, written by hand
AUTHORS_FOLDER = "Google Drive folder 17cLcPCDLuBV5_5-ngd0vXIDp6rebIMG1"
ROUNDING_DB, ROUNDING_SSIM = 1e-3, 1e-5  # of the numbers in the table

HEAD = """# The model zoo

scripts/make_model_zoo.py makes this page from han_arch/zoo/entries.json and the files in docs/model_zoo. Change those.

```sh
basicsr zoo list
basicsr zoo show han-authors-bix4
basicsr zoo verify
```

`load_model(NAME)` takes the file from the package or the cache folder, or downloads it. It always checks the hash.
`HAN_ARCH_CACHE` sets the cache folder; `basicsr zoo fetch` fills it in advance; a cached weight needs no network.

- A leaderboard accepts an entry as a model (`HAN-S: han-s-x4`).
- `basicsr zoo convert` converts other checkpoints to files with all construction options.
- `basicsr zoo publish` makes a release of an experiment: a folder with weights, card, log, curves, results, SR images,
  hashes and an entry for OpenModelDB.
- docs/model_zoo has the releases without weights (they are in the package) and SR images; of han-s-x2 and han-s-x3 only
  card, curves and results.

Every weight file is safetensors. Its name ends in the first 8 hex digits of its SHA-256. Its header has `network_g`
(all construction arguments), `normalisation` and `provenance`.

The curves show the averaged weights (EMA). At first these are close to the random start: for some thousand iterations
they stay far below their final values, and below bicubic interpolation.
"""

ABLATION = f"""## Does holistic attention help at this size?

Six small networks by one recipe (options/ablation_*.yml), trained and measured by
`python scripts/ablation.py --out docs/{ablation_tables.FOLDER}`. The results do not show what the paper's network
does: it is a hundred times as large and was trained a hundred times as long.
"""


def page(entries: Sequence[Entry], docs: Path) -> str:
    """Return the page's text.

    Args:
        entries: the zoo's table.
        docs: the folder with the page, with FOLDER/NAME/ for each entry that was trained here, and, if the ablation was
            measured, its folder.

    Raises:
        UserError: an entry's results are missing, or disagree with the table.
    """
    own = [entry for entry in entries if entry.recipe is not None]
    others = [entry for entry in entries if entry.recipe is None]
    parts = [HEAD, "## Trained here\n"]
    parts += [_overview(own), *(_section(entry, docs) for entry in own)] if own else ["No weight is released yet.\n"]
    parts += ["## The authors' weights\n", _authors(others)]
    folder = docs / ablation_tables.FOLDER
    if folder.is_dir():
        parts += [ABLATION, ablation_tables.markdown(folder)]
        if (folder / READING).is_file():
            parts.append((folder / READING).read_text("utf-8"))
    return "\n".join(parts)


def _overview(entries: Sequence[Entry]) -> str:
    heads = ["name", "task", "network", "parameters", "training", "file", "licence"]
    rows = []
    for e in entries:
        size = "{num_group} x {num_block} x {num_feat}".format(**e.arguments)
        start = f", started from {e.started_from}" if e.started_from else ""
        training = f"{e.training_set}, {e.iterations or 0:,} iterations{start}"
        file = f"`{e.file}`, {(e.size or 0) / 1e6:.1f} MB"
        network = f"{e.architecture} {size}"
        rows.append([f"[{e.name}](#{e.name})", e.task, network, f"{e.parameters:,}", training, file, e.licence])
    return "\n".join(markdown_table(heads, rows))


def _section(entry: Entry, docs: Path) -> str:
    folder = docs / FOLDER / entry.name
    table = folder / PER_IMAGE
    if not table.is_file():
        raise UserError(f"no {table}; run scripts/make_model_zoo.py --add RELEASE_OF_{entry.name}")
    means = read_means(table)
    if {entry.name, "Bicubic"} - means.keys():
        raise UserError(f"{table} must have {entry.name} and Bicubic; it has {', '.join(means)}")
    rows = []
    for expected in entry.expected:
        psnr, ssim = means[entry.name].get(expected.dataset, (float("nan"), float("nan")))
        if not (abs(psnr - expected.psnr) <= ROUNDING_DB and abs(ssim - expected.ssim) <= ROUNDING_SSIM):
            raise UserError(
                f"{table}: {expected.dataset} has {psnr:.4f} dB / {ssim:.6f}, the zoo's table "
                f"{expected.psnr} / {expected.ssim}"
            )
        base = means["Bicubic"][expected.dataset]
        rows.append([expected.dataset, f"{base[0]:.2f} / {base[1]:.4f}", f"{psnr:.2f} / {ssim:.4f}"])
    _check_files(entry, folder)
    lines = [
        f"### {entry.name}",
        "",
        f"Protocol: `{entry.expected[0].protocol}`",
        "",
        *markdown_table(["set", "Bicubic", entry.name], rows),
        f"Recipe: `{entry.recipe}`; `basicsr zoo reproduce {entry.name}` prints the commands from photos to these "
        f"numbers. [Card]({FOLDER}/{entry.name}/{CARD}), [each image's numbers]({FOLDER}/{entry.name}/{PER_IMAGE}).",
        "",
        f"Origin: {entry.origin}.",
        f"Terms: {entry.data_terms}.",
        f"sha256 `{entry.sha256}`, {entry.date}, commit `{entry.commit}`.",
        "",
    ]
    for stage in sorted(folder.glob("stage*")):
        lines += _curve(stage, f"{entry.name}/{stage.name}", f"{stage.name}: ")
    lines += _curve(folder, entry.name)
    return "\n".join(lines)


def _check_files(entry: Entry, folder: Path) -> None:
    """Check that card and per-image table belong to the entry's file."""
    with (folder / PER_IMAGE).open(newline="", encoding="utf-8") as file:
        measured = {row["weights_sha256"] for row in csv.DictReader(file) if row["model"] == entry.name}
    if measured != {entry.sha256}:
        raise UserError(f"{folder / PER_IMAGE} was measured with {measured}; the zoo's table has {entry.sha256}")
    card = folder / CARD
    text = card.read_text("utf-8") if card.is_file() else ""
    wanted = [entry.file, *(f"| {e.psnr:.2f} / {e.ssim:.4f} |" for e in entry.expected)]
    if lacking := [part for part in wanted if part not in text]:
        raise UserError(f"{card} is not the card of {entry.file}: it lacks {', '.join(lacking)}")


def _curve(folder: Path, name_in_docs: str, what: str = "") -> list[str]:
    """Return validation table and curves of a training; FOLDER/NAME/stage1 belongs to a recipe's first stage."""
    lines = []
    for path in sorted(folder.glob("val_*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        shown = rows[:: max(1, len(rows) // 8)]
        if rows and rows[-1] not in shown:
            shown.append(rows[-1])
        heads = [
            f"{what}{path.stem.removeprefix('val_')} after iterations",
            *(f"{int(row['iter']):,}" for row in shown),
        ]
        lines += markdown_table(heads, [["PSNR, dB", *(f"{float(row['psnr']):.2f}" for row in shown)]])
    if (folder / CURVES).is_file():
        lines += [f"![{what}curves of the training]({FOLDER}/{name_in_docs}/{CURVES})", ""]
    return lines


def _authors(entries: Sequence[Entry]) -> str:
    rows = []
    for entry in entries:
        if any(e.status == MEASURED for e in entry.expected):
            raise UserError(f"{entry.name} has no recipe, so it cannot have been measured by a release of this package")
        found = {e.dataset: f"{e.psnr:.2f} / {e.ssim:.4f} ({e.source})" for e in entry.expected if e.status == FOUND}
        set5 = found.get("Set5", "no number found")
        rows.append([entry.name, entry.task, entry.file, f"{entry.parameters:,}", set5])
    lines = [
        "The authors of HAN keep these files; their hashes are unknown. They were **not measured here**: the numbers",
        "are from papers, which used the authors' `chop`; a full image gives slightly other ones.",
        f"Download a file from their {AUTHORS_FOLDER} by a browser, then `basicsr zoo convert FILE NAME.safetensors`.",
        "",
        *markdown_table(["name", "task", "file", "parameters", "Set5, as published"], rows),
    ]
    terms = dict.fromkeys(f"{entry.licence}; {entry.data_terms}" for entry in entries)
    return "\n".join([*lines, *(f"Licence and terms: {term}." for term in terms)]) + "\n"


def add(release: Path, docs: Path) -> Path:
    """Replace an earlier release in docs by the small files of a new one; return their folder.

    Raises:
        UserError: no release folder.
    """
    sidecars = list(release.glob("*-????????.json"))
    if len(sidecars) != 1 or not (release / PER_IMAGE).is_file():
        raise UserError(f"{release} is no release folder of `basicsr zoo publish`")
    name = json.loads(sidecars[0].read_text("utf-8"))["entry"]["name"]
    target = docs / FOLDER / name
    shutil.rmtree(target, ignore_errors=True)
    # The package has the weights and the table; the hashes are of the whole folder.
    left_out = shutil.ignore_patterns("*.safetensors", SUMS, ROW, "Set5")
    shutil.copytree(release, target, ignore=left_out)
    return target


def main() -> int:
    """Write the page, or compare it; return 1 if it differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the page differs")
    parser.add_argument("--add", type=Path, nargs="+", default=[], metavar="RELEASE", help="release folders to show")
    parser.add_argument("--docs", type=Path, default=DOCS, help="default: docs/")
    args = parser.parse_args()
    for release in args.add:
        print(f"copied to {add(release, args.docs)}")
    target = args.docs / "model_zoo.md"
    text = page(ENTRIES, args.docs)
    if target.is_file() and target.read_text("utf-8") == text:
        return 0
    if args.check:
        print(f"{target} differs from the table and the results; run scripts/make_model_zoo.py")
        return 1
    target.write_text(text, "utf-8")
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
