"""Makes a release folder from an experiment: all of it, or nothing."""

import dataclasses
import datetime
import hashlib
import importlib.util
import inspect
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.evaluation import measurement
from han_arch.evaluation.protocol import Protocol
from han_arch.images.strict import encode_png
from han_arch.opt import read, shipped
from han_arch.release import card, measure, openmodeldb, stages, training_sets
from han_arch.release.experiment import Experiment
from han_arch.release.measure import Scores
from han_arch.release.training_sets import TrainingSet
from han_arch.training import summary
from han_arch.zoo import weight_file
from han_arch.zoo.entry import ENTRIES, MEASURED, Entry, Expected, to_json
from han_arch.zoo.load import load_strict
from han_arch.zoo.recognise import HAN_DEFAULTS, OURS, read_checkpoint

TOLERANCE_DB = 0.01  # another processor's rounding, through a network that sums in another order
SUMS = "SHA256SUMS"
ARCHITECTURE = "architectures_han.json"  # beside the OpenModelDB entry
PER_IMAGE, CURVES, CARD, ROW = "per_image.csv", "curves.png", "README.md", "entry.json"
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_HEX_END = re.compile(r"-[0-9a-f]{8,}$")


@dataclass(frozen=True)
class Request:
    """What a release is to be.

    Attributes:
        experiment: whose weights.
        name: of the entry.
        data: the folder of the test sets, see `measure.find_sets`.
        url: address of the folder that the file will be fetched from; None for a file in the package.
        author: user id at OpenModelDB.
        half: store float16.
    """

    experiment: Experiment
    name: str
    data: Path
    url: str | None = None
    author: str = "han-arch"
    half: bool = False


@dataclass(frozen=True)
class Release:
    """A finished release: its folder, its row, and what its OpenModelDB entry still lacks."""

    folder: Path
    entry: Entry
    openmodeldb_faults: list[str]


def default_name(experiment: Experiment) -> str:
    """The entry's name by the experiment's: HAN-S_x4_BSDS400 gives han-s-x4."""
    return "-".join(str(experiment.options["name"]).lower().split("_")[:2])


def publish(request: Request, out: Path) -> Release:
    """Make the release folder.

    Args:
        request: what it is to be.
        out: the folder to make.

    Raises:
        UserError: out exists, a bad name, unknown data terms, weights that do not fit, or test sets that cannot be
            measured; nothing is written then.
    """
    if out.exists():
        raise UserError(f"{out} exists; name a new folder, or remove it first")
    if not _NAME.fullmatch(request.name) or _HEX_END.search(request.name):
        raise UserError(
            f"the name must be lower-case words of letters and digits joined by -, the last no hash; got {request.name}"
        )
    if any(entry.name == request.name and entry.recipe is None for entry in ENTRIES):
        raise UserError(f"{request.name} is a weight of others in the zoo's table; choose another name")
    if request.url is not None and not re.match(r"https?://[^/\s]+", request.url):
        raise UserError(f"--url must be an http or https address, the folder of the file; got {request.url}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("a release has the training's curves, for which matplotlib is missing: pip install matplotlib")
    experiment = request.experiment
    training_set = training_sets.find(experiment.training_set)
    test_sets = measure.find_sets(request.data, Protocol(experiment.degradation, experiment.scale))
    tensors, arguments, parameters = _weights(experiment)
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        provenance = _provenance(request, training_set)
        data = weight_file.as_bytes(tensors, {"type": "HAN", **arguments}, provenance, half=request.half)
        weights = weight_file.write(data, stage, request.name)
        pictures = stage / test_sets[0].name
        pictures.mkdir()

        def keep(dataset: str, image: str, sr: Any) -> None:
            if dataset == pictures.name:
                (pictures / f"{image}.png").write_bytes(encode_png(sr))

        scores = measure.measure(measure.load(request.name, weights, experiment.scale), test_sets, keep)
        base = measure.measure(measure.bicubic(experiment.scale), test_sets)
        entry = _entry(request, training_set, arguments, parameters, weights, scores, provenance)
        sums = {request.name: entry.sha256 or "", "Bicubic": ""}
        _write(stage / PER_IMAGE, measure.per_image_csv({request.name: scores, "Bicubic": base}, sums))
        _copy_training(experiment, stage, str(entry.recipe))
        lacks = _write_descriptions(request, entry, training_set, base, provenance, stage)
        os.chmod(stage, 0o755)
        os.rename(stage, out)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    return Release(out, entry, lacks)


def _weights(experiment: Experiment) -> tuple[dict[str, torch.Tensor], dict[str, Any], int]:
    """Tensors, construction arguments and number of parameters, after loading them strictly into the network."""
    network_g = experiment.options["network_g"]
    checkpoint = read_checkpoint(experiment.checkpoint, experiment.weight_key)
    if network_g["type"] != "HAN" or checkpoint.kind != OURS:
        raise UserError(f"{experiment.checkpoint} is {checkpoint.summary}; only HAN is released")
    if any(experiment.weight_key in note for note in checkpoint.notes):
        raise UserError(f"{experiment.checkpoint} has no averaged weights ({experiment.weight_key})")
    given = HAN_DEFAULTS | network_g
    arguments = {name: given[name] for name in inspect.signature(HAN).parameters}
    arguments["rgb_mean"] = weight_file.normalisation(arguments)["rgb_mean"]
    net = HAN(**arguments)
    load_strict(net, checkpoint, arguments)
    return net.state_dict(), arguments, sum(parameter.numel() for parameter in net.parameters())


def _provenance(request: Request, training_set: TrainingSet) -> dict[str, Any]:
    experiment = request.experiment
    return {
        "name": request.name,
        "training_set": training_set.name,
        "training_photos": training_set.images,
        "degradation": experiment.degradation,
        "recipe": _recipe(experiment),
        "iterations": experiment.iterations + _iterations_before(experiment),
        "seed": experiment.options.get("manual_seed"),
        "averaged": experiment.weight_key == "params_ema",
        "started_from": _start(experiment),
        "chosen_by": experiment.chosen_by,
        "commit": measurement.commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "licence": training_set.licence,
        "data_terms": training_set.terms,
    }


def _recipe(experiment: Experiment) -> str:
    """The shipped option file of the experiment's name, else the experiment's own."""
    name = experiment.options["name"]
    for file in shipped.run_names():
        if file.startswith("train") and read.read(shipped.find(file))["name"] == name:
            return file
    return experiment.option_file.name


def _start(experiment: Experiment) -> str:
    """The weights that the training started from, by the recipe or the file that they are known by; "" for none."""
    start = (experiment.options.get("path") or {}).get("pretrain_network_g") or ""
    before = _stages_before(experiment)
    if before:
        return f"what {before[-1].file} gives after {before[-1].iterations:,} iterations"
    files = {entry.name: entry.file for entry in ENTRIES}  # a later release may take the name
    return files.get(start, Path(start).name)


def _iterations_before(experiment: Experiment) -> int:
    """Of the stages before that trained this same network; one of another scale only gave its backbone."""
    return sum(stage.iterations for stage in _stages_before(experiment) if stage.options["scale"] == experiment.scale)


def _stages_before(experiment: Experiment) -> list[stages.Stage]:
    return stages.before(stages.Stage(experiment.option_file.name, experiment.options))


def _entry(
    request: Request,
    training_set: TrainingSet,
    arguments: dict[str, Any],
    parameters: int,
    weights: Path,
    scores: Scores,
    provenance: dict[str, Any],
) -> Entry:
    experiment = request.experiment
    expected = tuple(
        Expected(
            dataset=name,
            psnr=round(score.psnr, 4),
            ssim=round(score.ssim, 6),
            tolerance_db=TOLERANCE_DB,
            protocol=score.protocol.name,
            variant="full",
            status=MEASURED,
            source="basicsr zoo publish",
        )
        for name, score in measure.means(scores).items()
    )
    return Entry(
        name=request.name,
        architecture="HAN",
        arguments=arguments,
        scale=experiment.scale,
        degradation=experiment.degradation,
        training_set=training_set.name,
        recipe=provenance["recipe"],
        iterations=provenance["iterations"],
        started_from=provenance["started_from"],
        file=weights.name,
        url=f"{request.url.rstrip('/')}/{weights.name}" if request.url else None,
        sha256=weight_file.sha256(weights),
        size=weights.stat().st_size,
        parameters=parameters,
        licence=f"{training_set.licence}, after the training data; han_arch's code is Apache-2.0",
        data_terms=training_set.terms,
        expected=expected,
        origin="; ".join(filter(None, ("trained with this package", experiment.chosen_by))),
        how_to_get="",
        date=provenance["date"],
        commit=provenance["commit"],
    )


def _copy_training(experiment: Experiment, stage: Path, recipe: str) -> None:
    """Option file, log, numbers and curves; paths of the machine that trained are shortened."""
    _write(stage / recipe, _without_paths(experiment, experiment.option_file.read_text("utf-8")))
    log = "".join(path.read_text("utf-8", errors="replace") for path in experiment.logs)
    _write(stage / "training.log", _without_paths(experiment, log))
    for path in experiment.numbers:
        shutil.copyfile(path, stage / path.name)
    summary.draw_curves(stage)


def _without_paths(experiment: Experiment, text: str) -> str:
    # The folder that holds experiments/, then any other absolute path down to its last part.
    text = text.replace(f"{experiment.folder.resolve().parent.parent}{os.sep}", "")
    return re.sub(r"(?<![\w:/.])/(?:[\w.+-]+/)+(?=[\w.+-])", "", text)


def _write_descriptions(
    request: Request, entry: Entry, training_set: TrainingSet, base: Scores, provenance: dict[str, Any], stage: Path
) -> list[str]:
    _write(stage / ROW, to_json(entry) + "\n")
    sidecar = {
        "entry": dataclasses.asdict(entry),
        "normalisation": weight_file.normalisation(entry.arguments),
        "provenance": provenance,
    }
    _write((stage / entry.file).with_suffix(".json"), json.dumps(sidecar, indent=1, ensure_ascii=False) + "\n")
    model = openmodeldb.model(entry, request.experiment, training_set, request.author)
    model_id = openmodeldb.model_id(entry)
    (stage / "openmodeldb").mkdir()
    _write(stage / "openmodeldb" / f"{model_id}.json", openmodeldb.text(model))
    _write(stage / "openmodeldb" / ARCHITECTURE, openmodeldb.text(openmodeldb.ARCHITECTURE_ROW))
    files = {
        entry.file: "the weights" + (", averaged over the training (EMA)" if provenance["averaged"] else ""),
        Path(entry.file).with_suffix(".json").name: "all that is known of them",
        str(entry.recipe): "options of the training, as used",
        "training.log": "its log",
        **{path.name: "its numbers" for path in request.experiment.numbers},
        CURVES: "its curves",
        PER_IMAGE: "PSNR and SSIM of every test image",
        "Set5/": "SR images",
        f"openmodeldb/{model_id}.json": "entry for OpenModelDB",
        f"openmodeldb/{ARCHITECTURE}": "the row that its table of architectures lacks",
        ROW: "the zoo's row",
        SUMS: "`sha256sum -c` checks all files",
    }
    seed = request.experiment.options.get("manual_seed")
    _write(stage / CARD, card.model_card(entry, training_set, measure.means(base), files, seed))
    listed = sorted(path for path in stage.rglob("*") if path.is_file())
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(stage).as_posix()}" for path in listed]
    _write(stage / SUMS, "\n".join(sums) + "\n")
    return openmodeldb.faults(model_id, model)


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
