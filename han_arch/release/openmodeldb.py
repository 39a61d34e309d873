"""Make a release's entry for OpenModelDB (openmodeldb.info), and check the entry by the rules of that site.

Rules: https://github.com/OpenModelDB/open-model-database, src/lib/schema.ts and model-props.ts. The site does not know
the architecture `han`. Therefore users must also submit `ARCHITECTURE_ROW` for data/architectures.json.
"""

import datetime
import re
from collections.abc import Mapping
from typing import Any

from han_arch.data.degradation import DEGRADATIONS
from han_arch.release.experiment import Experiment
from han_arch.zoo.entry import Entry

ADDRESS = re.compile(r"https?://[^/\s]+")
ARCHITECTURE_ROW = {"han": {"name": "HAN", "input": "image", "compatiblePlatforms": ["pytorch", "onnx"]}}
_REQUIRED: dict[str, Any] = {
    "name": str, "author": (str, list), "tags": list, "description": str, "date": str, "architecture": str,
    "scale": int, "inputChannels": int, "outputChannels": int, "resources": list, "images": list,
}  # fmt: skip
_OPTIONAL: dict[str, Any] = {
    "license": str, "size": list, "trainingIterations": int, "trainingEpochs": int, "trainingBatchSize": int,
    "trainingHRSize": int, "trainingOTF": bool, "dataset": str, "datasetSize": int, "pretrainedModelG": str,
    "pretrainedModelD": str, "thumbnail": dict,
}  # fmt: skip
_ID = re.compile(r"[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*")
_SPDX = re.compile(r"[a-zA-Z0-9.+()-]+(?: (?:AND|OR|WITH) [a-zA-Z0-9.+()-]+)*")
_EXPIRING = re.compile(r"https?://(?:cdn|media)\.discordapp\.(?:com|net)/")
_IMAGE_URLS: dict[str | None, tuple[str, ...]] = {"paired": ("LR", "SR"), "standalone": ("url",)}


def model(entry: Entry, experiment: Experiment, author: str) -> dict[str, Any]:
    """Return the OpenModelDB entry of a release. `author` is a user id at OpenModelDB.

    `license` is null, because the terms of the training data are not an SPDX licence. `description` contains the terms.
    """
    network, data, training_set = entry.arguments, experiment.options["datasets"]["train"], experiment.training_set
    numbers = ", ".join(f"{e.dataset} {e.psnr:.2f} / {e.ssim:.4f}" for e in entry.expected)
    description = (
        f"A small HAN (Holistic Attention Network, ECCV 2020, https://arxiv.org/abs/2008.08767) with "
        f"{entry.parameters:,} parameters, for photos shrunk by {DEGRADATIONS[entry.degradation].doc}.\n\n"
        f"PSNR / SSIM on Y: {numbers}. Protocol: {entry.expected[0].protocol}.\n\n"
        f"Data terms: {training_set.terms}.\n\n"
        "HAN has the backbone of RCAN. A program that detects the architecture must look for HAN's keys (lam, csam, "
        "conv_lam, conv_fuse) before RCAN's."
    )
    resource = {
        "platform": "pytorch",
        "type": "safetensors",
        "size": entry.size,
        "sha256": entry.sha256,
        "urls": [entry.url] if entry.url else [],
    }
    return {
        "name": entry.name,
        "author": author,
        "license": None,
        "tags": ["photo", "research"],
        "description": description,
        "date": entry.date,
        "architecture": "han",
        "size": [f"{network['num_feat']}nf", f"{network['num_group']}x{network['num_block']}nb"],
        "scale": entry.scale,
        "inputChannels": network["num_in_ch"],
        "outputChannels": network["num_out_ch"],
        "resources": [resource],
        "trainingIterations": entry.iterations,
        "trainingBatchSize": data["batch_size_per_gpu"],
        "trainingHRSize": data["gt_size"],
        "trainingOTF": False,
        "dataset": f"{training_set.name}: {training_set.what}",
        "datasetSize": training_set.images,
        "images": [],
    }


def faults(name: str, content: Mapping[str, Any]) -> list[str]:
    """Return the faults of an OpenModelDB entry, one line for each. `name` is the entry's id, such as 4x-han-s-x4.

    The function does not check whether OpenModelDB knows the ids of the author and the tags.
    """
    fields = _REQUIRED | _OPTIONAL
    found = [f"the field {key} is missing" for key in _REQUIRED if content.get(key) is None]
    for key in ("license", "size"):
        if key not in content:
            found.append(f"the field {key} is missing; use null if there is no value")
    found += [f"{key} is not a known field; remove it" for key in content if key not in fields]
    for key, kind in fields.items():
        value = content.get(key)
        if value is None:
            continue
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            found.append(f"{key} has the wrong type: {value!r}")
        elif kind is int and value < 1:
            found.append(f"{key} must be at least 1; got {value}")
        elif kind is list and key not in ("images", "size") and not value:
            found.append(f"{key} is empty; it must have at least one item")
    if found:
        return found
    if not name.startswith(f"{content['scale']}x-"):
        found.append(f"the model's id must start with the scale, {content['scale']}x-; got {name}")
    if content["scale"] > 16 or not {content["inputChannels"], content["outputChannels"]} <= {1, 2, 3, 4}:
        found.append("scale must be at most 16; inputChannels and outputChannels must be at most 4")
    try:
        is_date = datetime.date.fromisoformat(content["date"]).isoformat() == content["date"]
    except ValueError:
        is_date = False
    if not is_date:
        found.append(f"date must have the form yyyy-mm-dd; got {content['date']}")
    if content["license"] is not None and not _SPDX.fullmatch(content["license"]):
        found.append(f"license must be an SPDX expression, or null if there is none; got {content['license']!r}")
    authors = content["author"] if isinstance(content["author"], list) else [content["author"]]
    for key, ids in (("author", authors), ("tags", content["tags"])):
        if not ids or not all(isinstance(value, str) and _ID.fullmatch(value) for value in ids):
            found.append(f"each item of {key} must consist of letters and digits, joined by -; got {ids}")
    if not content["name"].strip():
        found.append("name is empty")
    if not all(isinstance(value, str) and value for value in content["size"] or []):
        found.append(f"each item of size must be a non-empty text; got {content['size']}")
    if content["description"] != content["description"].strip():
        found.append("description must not begin or end with white space")
    for number, resource in enumerate(content["resources"]):
        found += [f"resources[{number}].{fault}" for fault in _list_resource_faults(resource)]
    for number, image in enumerate(content["images"]):
        kind = image.get("type") if isinstance(image, Mapping) else None
        if kind not in _IMAGE_URLS or not all(ADDRESS.match(str(image.get(key))) for key in _IMAGE_URLS[kind]):
            needs = 'the type "paired" needs the keys LR and SR, and the type "standalone" needs the key url'
            found.append(f"images[{number}]: wrong type or address; {needs}")
    return found


def _list_resource_faults(resource: Mapping[str, Any]) -> list[str]:
    found = []
    for key, known in (("platform", ("pytorch", "onnx", "ncnn")), ("type", ("pth", "safetensors", "onnx"))):
        if resource.get(key) not in known:
            found.append(f"{key} must be one of {', '.join(known)}")
    if not isinstance(resource.get("size"), int) or resource["size"] < 1:
        found.append("size must be the size of the file in bytes")
    if not re.fullmatch(r"[0-9a-f]{64}", str(resource.get("sha256"))):
        found.append("sha256 must be 64 hex digits")
    fields = ("platform", "type", "size", "sha256", "urls")
    found += [f"{key} is not a known field; remove it" for key in resource if key not in fields]
    urls = list(map(str, resource.get("urls") or []))
    if not urls:
        found.append("urls is empty; pass --url to `basicsr zoo publish`")
    found += [f"urls must be http or https addresses; got {url}" for url in urls if not ADDRESS.match(url)]
    found += [f"urls must be permanent; Discord's addresses expire; got {url}" for url in urls if _EXPIRING.match(url)]
    return found
