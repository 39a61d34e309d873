"""Make a release folder from an experiment. If a step fails, no folder is written."""

import datetime
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from han_arch import files
from han_arch.archs.han_arch import HAN
from han_arch.compat import require
from han_arch.errors import UserError
from han_arch.evaluation import rows
from han_arch.evaluation.contestants import BICUBIC
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.run import measure_sets
from han_arch.evaluation.score import Score, SetScore, mean_scores
from han_arch.evaluation.sets import find_sets
from han_arch.images.write import encode_png
from han_arch.names import check_name
from han_arch.release import card, openmodeldb, reproduce
from han_arch.release.experiment import Experiment
from han_arch.release.reproduce import Stage
from han_arch.release.verify import PER_IMAGE, SUMS
from han_arch.speed.precision import PRECISIONS
from han_arch.training import records
from han_arch.version import commit
from han_arch.zoo import entry as table
from han_arch.zoo import store
from han_arch.zoo.entry import MEASURED, Entry, Expected
from han_arch.zoo.load import complete_options
from han_arch.zoo.recognise import OURS, normalisation, read_checkpoint

TOLERANCE_DB = 0.01  # largest PSNR difference between processors, which add numbers in different orders
ARCHITECTURE = "architectures_han.json"  # in the same folder as the OpenModelDB entry
CURVES, CARD, ROW = "curves.png", "README.md", "entry.json"
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_URL = re.compile(r"https?://[^/\s<>\"`|\\]+(?:/[^\s<>\"`|\\]*)?")
_HEX_END = re.compile(r"-[0-9a-f]{8,}$")


@dataclass(frozen=True)
class Request:
    """The user's choices for a release.

    Attributes:
        data: folder with the test sets, in the layout of `sets.find_sets`.
        url: web address of the folder where the weight file will be published. None: the package will contain the file.
        author: user id at OpenModelDB.
        half: whether to store the weights as float16.
    """

    experiment: Experiment
    name: str
    data: Path
    url: str | None = None
    author: str = "han-arch"
    half: bool = False


def default_name(experiment: Experiment) -> str:
    """Return the default name of the zoo entry, such as han-s-x4 for the experiment HAN-S_x4_BSDS400."""
    return "-".join(str(experiment.options["name"]).lower().split("_")[:2])


def publish(request: Request, out: Path) -> tuple[Entry, list[str]]:
    """Make the release folder `out`. Return its zoo entry, and one line for each fault of its OpenModelDB entry.

    Raises:
        UserError: `out` exists; a value in the request is not allowed; the package lacks the option file of an earlier
            training stage; the weights do not fit the network; a test set cannot be measured; or a score is not finite.
            No folder is written.
    """
    _check(request, out)
    experiment = request.experiment
    test_sets = find_sets(request.data, Protocol(experiment.degradation, experiment.scale))
    for image in test_sets[0].images:
        check_name(f"the image {image.gt}, whose SR image is in the release,", image.name)
    weights = _read_weights(request)
    out.parent.mkdir(parents=True, exist_ok=True)
    with files.new_folder(out) as folder:
        precision = PRECISIONS["fp16" if request.half else "fp32"]
        file = store.write_named(weights, folder, request.name, precision)
        pictures = folder / test_sets[0].name
        pictures.mkdir()

        def keep(dataset: str, image: str, sr: Any) -> None:
            if dataset == pictures.name:
                files.write(pictures / f"{image}.png", encode_png(sr))

        scores = measure_sets(request.name, {"checkpoint": str(file)}, test_sets, keep)
        base = measure_sets(BICUBIC, {"type": BICUBIC}, test_sets)
        _check_finite({request.name: mean_scores(scores), BICUBIC: mean_scores(base)})
        entry = _entry(request, weights, file, mean_scores(scores))
        images: list[dict[str, str]] = []
        for name, sha256, of_model in ((request.name, entry.sha256 or "", scores), (BICUBIC, "", base)):
            for dataset, of_set in of_model.items():
                images += rows.image_rows(of_set, model=name, set=dataset, weights_sha256=sha256)
        files.write(folder / PER_IMAGE, rows.csv_text(list(images[0]), images))
        _copy_training(experiment, folder, str(entry.recipe))
        faults = _write_descriptions(request, weights, entry, mean_scores(base), folder)
    return entry, faults


def _check(request: Request, out: Path) -> None:
    if out.exists():
        raise UserError(f"{out} already exists; remove it, or choose another folder")
    if not _NAME.fullmatch(request.name) or _HEX_END.search(request.name):
        raise UserError(
            "the name must be lower-case letters and digits, joined by -, and must not end with a hash (- and "
            f"8 or more hex digits); got {request.name}"
        )
    if any(entry.name == request.name and entry.recipe is None for entry in table.ENTRIES):
        raise UserError(f"other people's weights in the zoo already have the name {request.name}; choose another name")
    for path in (request.experiment.option_file, *request.experiment.numbers):
        check_name(f"the file {path}", path.name)
    if request.url is not None and not _URL.fullmatch(request.url):
        raise UserError(
            "--url must be the http or https address of the folder for the weight file, without the file name; "
            f"got {request.url}"
        )
    require("matplotlib", "plots")  # to draw the curves of the training


def _check_finite(means: Mapping[str, Mapping[str, SetScore]]) -> None:
    faults = [
        f"{name}, {dataset}: {mean.note}" for name, own in means.items() for dataset, mean in own.items() if mean.note
    ]
    if faults:
        raise UserError("\n  ".join(["a release needs finite scores of all images; remove these images:", *faults]))


def _read_weights(request: Request) -> store.Weights:
    """Read the weights with their provenance, and check that they fit the network exactly."""
    experiment = request.experiment
    network_g, source = experiment.options["network_g"], str(experiment.checkpoint)
    checkpoint = read_checkpoint(source, experiment.weight_key)
    if network_g["type"] != "HAN" or checkpoint.kind != OURS:
        raise UserError(
            f"{source} is {checkpoint.summary}; only HAN weights with this package's parameter names can be released"
        )
    network_g, _ = complete_options(checkpoint, network_g)
    return store.Weights(checkpoint.tensors, network_g, _provenance(request))


def _provenance(request: Request) -> dict[str, Any]:
    experiment, training_set = request.experiment, request.experiment.training_set
    shipped = reproduce.stage_named(experiment.options["name"])
    stage = Stage(experiment.option_file.name, experiment.options)
    before = reproduce.stages_before(stage)
    # A training at another scale gave only weights of the backbone, so its iterations are not counted.
    included = sum(other.iterations for other in before if other.scale == stage.scale)
    return {
        "name": request.name,
        "training_set": training_set.name,
        "training_photos": training_set.images,
        "degradation": experiment.degradation,
        "recipe": shipped.file if shipped else experiment.option_file.name,
        "iterations": experiment.iterations + included,
        "seed": experiment.options.get("manual_seed"),
        "averaged": experiment.weight_key == "params_ema",
        "started_from": _describe_start(stage, before, included),
        "chosen_by": experiment.chosen_by,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "licence": training_set.licence,
        "data_terms": training_set.terms,
    }


def _describe_start(stage: Stage, before: list[Stage], included: int) -> str:
    """Describe the weights that the training started from; return "" for random weights."""
    if before:
        last = before[-1]
        after = f"the first {included:,} of these" if last.scale == stage.scale else f"{last.iterations:,}"
        return f"the weights of {last.file} after {after} iterations"
    start = stage.start or ""
    # A later release may get the same entry name, so use the file name, which has a hash.
    return {entry.name: entry.file for entry in table.ENTRIES}.get(start, Path(start).name)


def _entry(request: Request, weights: store.Weights, file: Path, means: Mapping[str, Score]) -> Entry:
    experiment, url = request.experiment, request.url
    arguments = {key: value for key, value in weights.network_g.items() if key != "type"}
    measured = {"variant": "full", "status": MEASURED, "source": "basicsr zoo publish"}
    in_both = ("training_set", "degradation", "recipe", "iterations", "started_from", "data_terms", "date", "commit")
    return Entry(
        name=request.name,
        architecture="HAN",
        arguments=arguments,
        scale=experiment.scale,
        file=file.name,
        url=f"{url.rstrip('/')}/{file.name}" if url else None,
        sha256=files.hash_file(file),
        size=file.stat().st_size,
        parameters=sum(parameter.numel() for parameter in HAN(**arguments).parameters()),
        licence=f"{weights.provenance['licence']}, because of the training data; the code of han_arch is Apache-2.0",
        expected=tuple(
            Expected(name, round(one.psnr, 4), round(one.ssim, 6), TOLERANCE_DB, one.protocol.name, **measured)
            for name, one in means.items()
        ),
        origin="; ".join(filter(None, ("trained with this package", experiment.chosen_by))),
        how_to_get="",
        **{key: weights.provenance[key] for key in in_both},
    )


def _copy_training(experiment: Experiment, folder: Path, recipe: str) -> None:
    """Copy the option file, logs and CSV files; remove absolute paths from option file and logs. Draw the curves."""
    files.write(folder / recipe, _without_paths(experiment, experiment.option_file.read_text("utf-8")))
    logs = sorted(experiment.folder.glob("train_*.log"), key=lambda path: path.stem[-15:])  # ..._YYYYmmdd_HHMMSS
    log = "".join(path.read_text("utf-8", errors="replace") for path in logs)
    files.write(folder / "training.log", _without_paths(experiment, log))
    for path in experiment.numbers:
        shutil.copyfile(path, folder / path.name)
    records.draw_curves(folder)


def _without_paths(experiment: Experiment, text: str) -> str:
    # First remove the path of the folder that contains experiments/, then the folders in all other absolute paths.
    text = text.replace(f"{experiment.folder.resolve().parent.parent}{os.sep}", "")
    return re.sub(r"(?<![\w:/.])/(?:[\w.+-]+/)+(?=[\w.+-])", "", text)


def _write_descriptions(
    request: Request, weights: store.Weights, entry: Entry, bicubic: Mapping[str, Score], folder: Path
) -> list[str]:
    """Write SHA256SUMS and the files that describe the release. Return the faults of the OpenModelDB entry."""
    experiment, provenance = request.experiment, weights.provenance
    sidecar = Path(entry.file).with_suffix(".json").name
    files.write(folder / ROW, table.to_json(entry) + "\n")
    facts = {"entry": asdict(entry), "normalisation": normalisation(entry.arguments), "provenance": provenance}
    _write_json(folder / sidecar, facts, 1)
    model_id = f"{entry.scale}x-{entry.name}"
    model = openmodeldb.model(entry, experiment, request.author)
    (folder / "openmodeldb").mkdir()
    _write_json(folder / "openmodeldb" / f"{model_id}.json", model, 4)
    _write_json(folder / "openmodeldb" / ARCHITECTURE, openmodeldb.ARCHITECTURE_ROW, 4)
    listed = {
        entry.file: "the weights" + (", averaged over the training (EMA)" if provenance["averaged"] else ""),
        sidecar: "all facts about the weights",
        str(entry.recipe): "option file of the training",
        "training.log": "log of the training",
        **{path.name: "losses or validation results of the training" for path in experiment.numbers},
        CURVES: "curves of the training",
        PER_IMAGE: "PSNR and SSIM of every test image",
        "Set5/": "SR images",
        f"openmodeldb/{model_id}.json": "entry for OpenModelDB",
        f"openmodeldb/{ARCHITECTURE}": "row to add to OpenModelDB's table of architectures, which does not have HAN",
        ROW: "entry for the zoo's table",
        SUMS: "hashes of all files; `sha256sum -c SHA256SUMS` checks them",
    }
    text = card.model_card(entry, experiment.training_set, bicubic, listed, provenance["seed"])
    files.write(folder / CARD, text)
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = [f"{files.hash_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in written]
    files.write(folder / SUMS, "".join(sums))
    return openmodeldb.faults(model_id, model)


def _write_json(path: Path, content: Mapping[str, Any], indent: int) -> None:
    files.write(path, files.json_text(content, indent) + "\n")
