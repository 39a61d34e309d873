"""Write docs/model_zoo.md from han_arch/zoo/entries.json and the result files in docs/model_zoo.

With `--check`, only check that the page is up to date.

Examples:
  python scripts/make_model_zoo.py --add release/han-s-x4
  python scripts/make_model_zoo.py
  python scripts/make_model_zoo.py --check

With `--add`, the script first adds release folders from `basicsr zoo publish` to the zoo. It writes each entry to
han_arch/zoo/entries.json, copies the weight file to han_arch/zoo/weights, and copies the other files, except SR images
and hashes, to docs/model_zoo/NAME.
"""

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import ablation_tables

from han_arch import program
from han_arch.errors import UserError
from han_arch.evaluation.rows import Markdown, code, markdown_table
from han_arch.files import json_text, read_mapping, write
from han_arch.names import check_name
from han_arch.release.publish import CARD, CURVES, ROW
from han_arch.release.verify import PER_IMAGE, SUMS, read_means
from han_arch.zoo.entry import FOUND, MEASURED, TABLE, Entry, from_json
from han_arch.zoo.store import SHIPPED

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS, ZOO = REPOSITORY / "docs", REPOSITORY / "han_arch" / "zoo"
FOLDER = "model_zoo"  # folder in DOCS with the files of the releases
READING = "reading.md"  # conclusions from the tables of the ablation, written by hand
AUTHORS_FOLDER = "Google Drive folder 17cLcPCDLuBV5_5-ngd0vXIDp6rebIMG1"
ROUNDING_DB, ROUNDING_SSIM = 1e-3, 1e-5  # largest differences that rounding in the zoo's table can cause

HEAD = """# The model zoo

scripts/make_model_zoo.py makes this page from han_arch/zoo/entries.json and the files in docs/model_zoo. Do not edit
the page by hand.

```sh
basicsr zoo list
basicsr zoo show han-authors-bix4
basicsr zoo verify
```

`load_model(NAME)` loads the weight file from the package or from the cache folder. If neither contains the file,
`load_model` downloads it. The hash of the file is always checked. The environment variable `HAN_ARCH_CACHE`
sets the cache folder. `basicsr zoo fetch` downloads files in advance; then `load_model` works without internet access.

- In the options of a leaderboard, a model can be the name of a zoo entry (`HAN-S: han-s-x4`).
- `basicsr zoo convert` converts other checkpoints to files that contain all options of the network.
- `basicsr zoo publish` makes a release folder from an experiment: weights, card, log, curves, results, SR images,
  hashes and an entry for OpenModelDB.
- The folder docs/model_zoo contains the release folders without SR images and weights. The weights are in the package.
  The folders of han-s-x2 and han-s-x3 contain only card, curves and results.

Every weight file has the safetensors format. Its name ends in the first 8 hex digits of its SHA-256. Its header has
`network_g` (all options of the network), `normalisation` and `provenance`.

The curves show the PSNR of the averaged weights (EMA). At first, the averaged weights are close to the random start.
Therefore, during the first few thousand iterations, their PSNR is lower than that of bicubic interpolation.
"""

ABLATION = f"""## Does holistic attention help at this size?

`python scripts/ablation.py --out docs/{ablation_tables.FOLDER}` trained six small networks by the same recipe
(options/ablation_*.yml) and measured them. The results do not apply to the paper's network, which is a hundred times as
large and was trained a hundred times as long.
"""


def page(entries: Sequence[Entry], docs: Path) -> str:
    """Return the text of the page.

    The folder `docs` must contain model_zoo/NAME/ for each entry that was trained with this package. If `docs` also
    contains model_zoo/ablation/, the page shows the ablation.

    Raises:
        UserError: the results of an entry are missing, or differ from the scores in entries.json.
    """
    own = [entry for entry in entries if entry.recipe is not None]
    others = [entry for entry in entries if entry.recipe is None]
    parts = [HEAD, "## Weights trained with this package\n"]
    parts += [_overview(own), *(_section(entry, docs) for entry in own)] if own else ["There are no releases yet.\n"]
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
        network = e.architecture + " {num_group} x {num_block} x {num_feat}".format(**e.arguments)
        start = f", started from {e.started_from}" if e.started_from else ""
        training = f"{e.training_set}, {e.iterations or 0:,} iterations{start}"
        file = Markdown(f"{code(e.file)}, {(e.size or 0) / 1e6:.1f} MB")
        link = Markdown(f"[{e.name}](#{e.name})")
        rows.append([link, e.task, network, f"{e.parameters:,}", training, file, e.licence])
    return "\n".join(markdown_table(heads, rows))


def _section(entry: Entry, docs: Path) -> str:
    folder = docs / FOLDER / entry.name
    table = folder / PER_IMAGE
    if not table.is_file():
        raise UserError(
            f"{table} does not exist; pass the release folder of {entry.name} to scripts/make_model_zoo.py --add"
        )
    means = read_means(table)
    if {entry.name, "Bicubic"} - means.keys():
        raise UserError(f"{table} must have rows for {entry.name} and Bicubic; it has rows for {', '.join(means)}")
    rows = []
    for expected in entry.expected:
        psnr, ssim = means[entry.name].get(expected.dataset, (float("nan"), float("nan")))
        if not (abs(psnr - expected.psnr) <= ROUNDING_DB and abs(ssim - expected.ssim) <= ROUNDING_SSIM):
            raise UserError(
                f"{table}: {entry.name} has {psnr:.4f} dB / {ssim:.6f} on {expected.dataset}, but entries.json says "
                f"{expected.psnr} dB / {expected.ssim}"
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
        f"Recipe: `{entry.recipe}`. `basicsr zoo reproduce {entry.name}` prints all commands from the photos to these "
        f"results. [Card]({FOLDER}/{entry.name}/{CARD}), [results per image]({FOLDER}/{entry.name}/{PER_IMAGE}).",
        "",
        f"Origin: {entry.origin}.",
        f"Terms of the training data: {entry.data_terms}.",
        f"SHA-256 `{entry.sha256}`, published on {entry.date} from commit `{entry.commit}`.",
        "",
    ]
    for stage in sorted(folder.glob("stage*")):
        lines += _curve(stage, f"{entry.name}/{stage.name}", f"{stage.name}: ")
    lines += _curve(folder, entry.name)
    return "\n".join(lines)


def _check_files(entry: Entry, folder: Path) -> None:
    """Check that the model card and the per-image table in a folder describe the weight file of the entry."""
    with (folder / PER_IMAGE).open(newline="", encoding="utf-8") as file:
        measured = {row["weights_sha256"] for row in csv.DictReader(file) if row["model"] == entry.name}
    if measured != {entry.sha256}:
        raise UserError(
            f"{folder / PER_IMAGE} must describe the weight file with SHA-256 {entry.sha256}; it describes {measured}"
        )
    card = folder / CARD
    text = card.read_text("utf-8") if card.is_file() else ""
    wanted = [entry.file, *(f"| {e.psnr:.2f} / {e.ssim:.4f} |" for e in entry.expected)]
    if lacking := [part for part in wanted if part not in text]:
        raise UserError(f"{card} is not the card of {entry.file}, because the card lacks {', '.join(lacking)}")


def _curve(folder: Path, name_in_docs: str, what: str = "") -> list[str]:
    """Return Markdown lines with the validation results and the curves of a training, or of one of its stages."""
    lines = []
    for path in sorted(folder.glob("val_*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        shown = rows[:: max(1, len(rows) // 8)]
        if rows and rows[-1] not in shown:
            shown.append(rows[-1])
        title = f"{what}{path.stem.removeprefix('val_')} after iterations"
        heads = [title, *(f"{int(row['iter']):,}" for row in shown)]
        lines += markdown_table(heads, [["PSNR, dB", *(f"{float(row['psnr']):.2f}" for row in shown)]])
    if (folder / CURVES).is_file():
        lines += [f"![{what}curves of the training]({FOLDER}/{name_in_docs}/{CURVES})", ""]
    return lines


def _authors(entries: Sequence[Entry]) -> str:
    rows = []
    for entry in entries:
        if any(e.status == MEASURED for e in entry.expected):
            raise UserError(
                f"the zoo entry {entry.name} has measured results but no recipe; add its recipe to entries.json"
            )
        found = {e.dataset: f"{e.psnr:.2f} / {e.ssim:.4f} ({e.source})" for e in entry.expected if e.status == FOUND}
        set5 = found.get("Set5", "not found in any paper")
        rows.append([entry.name, entry.task, entry.file, f"{entry.parameters:,}", set5])
    lines = [
        f"The files are in the authors' {AUTHORS_FOLDER}. Their hashes are unknown.",
        "Download a file with a browser, then run `basicsr zoo convert FILE NAME.safetensors`.",
        "",
        "The files were **not measured here**. The PSNR and SSIM are from papers. The papers used the authors'",
        "inference in parts (`chop`). Inference on complete images gives slightly different results.",
        "",
        *markdown_table(["name", "task", "file", "parameters", "Set5, as published"], rows),
    ]
    terms = dict.fromkeys(f"Licence: {e.licence}. Terms of the training data: {e.data_terms}." for e in entries)
    return "\n".join([*lines, *terms]) + "\n"


def add(release: Path, docs: Path, zoo: Path) -> Path:
    """Add a release to the zoo, or replace the release with the same name. Return the new folder in `docs`.

    Args:
        release: release folder that `basicsr zoo publish` made.
        docs: folder of the page.
        zoo: folder with entries.json and weights/.

    Raises:
        UserError: `release` is not a release folder, its entry is damaged, or a name in it cannot be a file's name.
    """
    if not all((release / name).is_file() for name in (ROW, PER_IMAGE)):
        raise UserError(f"{release} is not a release folder; `basicsr zoo publish` makes release folders")
    try:
        row = read_mapping(release / ROW)
        from_json(row)  # the package reads the table at its start, so a wrong entry would break it
    except (TypeError, ValueError, LookupError) as error:
        raise UserError(f"{release / ROW} is not the entry of a release ({error}); publish it again") from error
    for key in ("name", "file"):
        check_name(f"{key} in {release / ROW}", row[key])
    rows = json.loads((zoo / TABLE.name).read_text("utf-8"))
    if row["url"] is None:  # otherwise users download the file
        shutil.copyfile(release / row["file"], zoo / SHIPPED.name / row["file"])
    place = next((index for index, old in enumerate(rows) if old["name"] == row["name"]), len(rows))
    replaced = rows[place : place + 1]
    rows[place : place + 1] = [row]
    write(zoo / TABLE.name, json_text(rows, indent=2) + "\n")
    for old in replaced:
        if old["file"] != row["file"]:
            (zoo / SHIPPED.name / old["file"]).unlink(missing_ok=True)
    target = docs / FOLDER / row["name"]
    shutil.rmtree(target, ignore_errors=True)
    # The package contains the weights and the entry. SHA256SUMS is not copied, because it lists all files.
    left_out = shutil.ignore_patterns("*.safetensors", SUMS, ROW, "Set5")
    shutil.copytree(release, target, ignore=left_out)
    return target


def main() -> int:
    """Write the page. With `--check`, only check the page, and return 1 if it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_argument = parser.add_argument
    check = "only check the page: exit with status 1 if it is out of date"
    add_argument("--check", action="store_true", help=check)
    added = "release folders to add to the zoo before the script writes the page"
    add_argument("--add", type=Path, nargs="+", default=[], metavar="RELEASE", help=added)
    docs = "folder for the page model_zoo.md (default: docs in the repository)"
    add_argument("--docs", type=Path, default=DOCS, help=docs)
    zoo = "folder with entries.json and weights/ (default: han_arch/zoo in the repository)"
    add_argument("--zoo", type=Path, default=ZOO, help=zoo)
    args = parser.parse_args()
    for release in args.add:
        print(f"added {release} to {args.zoo / TABLE.name} and {add(release, args.docs, args.zoo)}")
    target = args.docs / "model_zoo.md"
    entries = [from_json(row) for row in json.loads((args.zoo / TABLE.name).read_text("utf-8"))]
    text = page(entries, args.docs)
    if target.is_file() and target.read_text("utf-8") == text:
        return 0
    if args.check:
        print(f"{target} is out of date; run scripts/make_model_zoo.py")
        return 1
    write(target, text)
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(program.run("make_model_zoo.py", main))
