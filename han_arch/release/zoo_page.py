"""docs/model_zoo.md: the zoo's page, made from its table and the result files that stand beside the page."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from han_arch.errors import UserError
from han_arch.release import ablation, measure
from han_arch.release.publish import CARD, CURVES, PER_IMAGE
from han_arch.zoo.entry import FOUND, MEASURED, Entry

AUTHORS_FOLDER = "Google Drive folder 17cLcPCDLuBV5_5-ngd0vXIDp6rebIMG1"
# What the training here was to reach, PSNR in dB; the page says what is missing.
AIMS = {
    ("han-s-x4", "Set5"): 31.50,
    ("han-s-x4", "Set14"): 28.15,
    ("han-s-x4", "B100"): 27.33,
    ("han-s-x3", "Set5"): 33.6,
    ("han-s-x2", "Set5"): 37.3,
}
FOLDER, ABLATION = "model_zoo", "ablation"  # beside the page
READING = "reading.md"  # what the ablation's tables say, written by hand after they were made
ROUNDING_DB, ROUNDING_SSIM = 1e-3, 1e-5  # of the numbers in the table

HEAD = """# The model zoo

Made by scripts/make_model_zoo.py from han_arch/zoo/entries.json and the files in docs/model_zoo: change those.

```sh
basicsr zoo list
basicsr zoo show han-authors-bix4
basicsr zoo verify
```

`load_model(NAME)` takes the file in the package, or the one in the cache folder, or fetches it, always with the hash of
the table; `HAN_ARCH_CACHE` moves the cache. `basicsr zoo fetch` fills it beforehand; a cached weight needs no network.
A leaderboard takes an entry as a model (`HAN-S: han-s-x4`). `basicsr zoo convert` turns other checkpoints into files
that tell all of themselves, and `basicsr zoo publish` makes a release of an experiment: a folder with weights, card,
log, curves, results, SR images, hashes and an entry for OpenModelDB. docs/model_zoo has them but for the weights, which
are in the package, and the SR images; of the first releases, han-s-x2 and han-s-x3, only card, curves and results.

Every weight file is safetensors; its name ends in the first 8 hex digits of its SHA-256, and its header holds
`network_g` (all construction arguments), `normalisation` and `provenance`.

The curves are those of the averaged weights (EMA), which at first still hold much of the random start: after some
thousand iterations they are far below where they end, and below bicubic interpolation.
"""


def page(entries: Sequence[Entry], docs: Path) -> str:
    """The page's text.

    Args:
        entries: the zoo's table.
        docs: the folder with the page and FOLDER/NAME/ of each entry that was trained here; FOLDER/ABLATION, if it was
            measured.

    Raises:
        UserError: an entry's results are not there, or are not those of the table.
    """
    own = [entry for entry in entries if entry.recipe is not None]
    others = [entry for entry in entries if entry.recipe is None]
    parts = [HEAD, "## Trained here\n"]
    parts += [_overview(own), *(_section(entry, docs) for entry in own)] if own else ["No weight is released yet.\n"]
    parts += ["## The authors' weights\n", _authors(others)]
    folder = docs / FOLDER / ABLATION
    if folder.is_dir():
        parts += [_ABLATION, ablation.markdown(folder)]
        if (folder / READING).is_file():
            parts.append((folder / READING).read_text("utf-8"))
    return "\n".join(parts)


_ABLATION = """## Does holistic attention help at this size?

Six small networks by one recipe (options/ablation_*.yml), trained and measured by
`python scripts/ablation.py --out docs/model_zoo/ablation`. Whatever came out stands here. Nothing of it speaks of the
paper's network, which is a hundred times as large and was trained a hundred times as long.
"""


def _overview(entries: Sequence[Entry]) -> str:
    rows = [
        "| name | task | network | parameters | training | file | licence |",
        "|---|---|---|---|---|---|---|",
    ]
    for e in entries:
        size = "{num_group} x {num_block} x {num_feat}".format(**e.arguments)
        kilobytes = f"{(e.size or 0) / 1e6:.1f} MB"
        rows.append(
            f"| [{e.name}](#{e.name}) | {e.task} | {e.architecture} {size} | {e.parameters:,} | {e.training_set}, "
            f"{e.iterations or 0:,} iterations{f' from {e.started_from}' if e.started_from else ''} | "
            f"`{e.file}`, {kilobytes} | {e.licence} |"
        )
    return "\n".join(rows) + "\n"


def _section(entry: Entry, docs: Path) -> str:
    folder = docs / FOLDER / entry.name
    table = folder / PER_IMAGE
    if not table.is_file():
        raise UserError(f"{table} is not there; run scripts/make_model_zoo.py --add RELEASE_OF_{entry.name}")
    means = measure.read_means(table)
    if {entry.name, "Bicubic"} - means.keys():
        raise UserError(f"{table} must have {entry.name} and Bicubic; it has {', '.join(means)}")
    aims = [AIMS.get((entry.name, expected.dataset)) for expected in entry.expected]
    rows = [
        f"| set | Bicubic | {entry.name} | aimed at | |",
        "|---|---|---|---|---|",
    ]
    for expected, aim in zip(entry.expected, aims, strict=True):
        psnr, ssim = means[entry.name].get(expected.dataset, (float("nan"), float("nan")))
        if not (abs(psnr - expected.psnr) <= ROUNDING_DB and abs(ssim - expected.ssim) <= ROUNDING_SSIM):
            raise UserError(
                f"{table}: {expected.dataset} has {psnr:.4f} dB / {ssim:.6f}, the zoo's table "
                f"{expected.psnr} / {expected.ssim}"
            )
        base = means["Bicubic"][expected.dataset]
        reached = "" if aim is None else "reached" if psnr >= aim else f"{aim - psnr:.2f} dB are missing"
        rows.append(
            f"| {expected.dataset} | {base[0]:.2f} / {base[1]:.4f} | {psnr:.2f} / {ssim:.4f} | "
            f"{'' if aim is None else f'{aim:.2f}'} | {reached} |"
        )
    _check_files(entry, folder)
    lines = [f"### {entry.name}", "", f"Protocol: `{entry.expected[0].protocol}`", "", *rows, ""]
    lines += [
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
    """The card and the per-image table must be those of the entry's file."""
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
    """Validation and curves of a training; FOLDER/NAME/stage1 holds those of a recipe's first stage."""
    lines = []
    for path in sorted(folder.glob("val_*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        shown = rows[:: max(1, len(rows) // 8)]
        if rows and rows[-1] not in shown:
            shown.append(rows[-1])
        dataset = path.stem.removeprefix("val_")
        iterations = "".join(f" {int(row['iter']):,} |" for row in shown)
        values = "".join(f" {float(row['psnr']):.2f} |" for row in shown)
        lines += [
            f"| {what}{dataset} after iterations |{iterations}",
            "|---|" + "---|" * len(shown),
            f"| PSNR, dB |{values}",
            "",
        ]
    if (folder / CURVES).is_file():
        lines += [f"![{what}curves of the training]({FOLDER}/{name_in_docs}/{CURVES})", ""]
    return lines


def _authors(entries: Sequence[Entry]) -> str:
    rows = [
        "Kept by the authors of HAN, of unknown hash, and **not measured here**: the numbers are those that were found",
        "in print. Each was made by the authors' `chop`, so a full image gives slightly other ones.",
        f"Download a file from their {AUTHORS_FOLDER} by a browser, then `basicsr zoo convert FILE NAME.safetensors`.",
        "",
        "| name | task | file | parameters | Set5, as published |",
        "|---|---|---|---|---|",
    ]
    for entry in entries:
        found: Mapping[str, str] = {
            e.dataset: f"{e.psnr:.2f} / {e.ssim:.4f} ({e.source})" for e in entry.expected if e.status == FOUND
        }
        if any(e.status == MEASURED for e in entry.expected):
            raise UserError(f"{entry.name} has no recipe, so it cannot have been measured by a release of this package")
        cell = found.get("Set5", "no number found")
        rows.append(f"| {entry.name} | {entry.task} | {entry.file} | {entry.parameters:,} | {cell} |")
    terms = dict.fromkeys(f"{entry.licence}; {entry.data_terms}" for entry in entries)
    return "\n".join([*rows, "", *(f"Licence and terms: {term}." for term in terms)]) + "\n"
