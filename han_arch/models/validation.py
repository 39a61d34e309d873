"""Validation: run a network over a set and measure it; the processes of a run share the images."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger, imwrite, tensor2img
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

SHOWN_IMAGES = 3
SHOWN_SIDE = 192  # GT pixels


def validate(
    model: Any,
    dataset: Any,
    image_path: Callable[[str], str] | None,
    show: Callable[[str, list[Tensor]], None] | None,
) -> dict[str, float]:
    """Return the mean of each metric over a set; every process measures its share and gets the same means.

    Deviations from BasicSR's validation:

    - Images of several sets do not overwrite each other.
    - An output or a metric that is not finite makes the mean nan, and the log names its file.
    - A set without GT gives no metrics.

    Args:
        model: an SRModel with `feed_data`, `test` and `get_current_visuals`.
        dataset: BasicSR's dataset; its samples have "lq", "lq_path" and perhaps "gt".
        image_path: function from an image's name to the path of the saved output; None: save no outputs.
        show: callback for the first images of this process, with the image's name and [LQ, output, GT if any].

    Returns:
        metric -> mean; empty when no metric can be computed.
    """
    opt = model.opt
    metrics = opt["val"].get("metrics") or {}
    results: dict[int, dict[str, float]] = {}
    shown = 0
    hides_bar = opt["rank"] != 0 or not opt["val"].get("pbar")
    indices = range(opt["rank"], len(dataset), opt["world_size"])
    for index in tqdm(indices, desc=dataset.opt["name"], unit="image", disable=hides_bar):
        sample = default_collate([dataset[index]])
        if hasattr(model, "gt"):
            del model.gt  # it belongs to the last training batch
        model.feed_data(sample)
        model.test()
        path = Path(sample["lq_path"][0])
        if not model.output.isfinite().all():
            get_root_logger().warning(f"{path}: the output is not finite; its metrics are nan")
            results[index] = dict.fromkeys(metrics, math.nan)
            continue
        visuals = model.get_current_visuals()
        images = {"img": tensor2img([visuals["result"]])}
        if show is not None and shown < SHOWN_IMAGES:
            show(path.stem, [visuals[key] for key in ("lq", "result", "gt") if key in visuals])
            shown += 1
        if image_path is not None:
            imwrite(images["img"], image_path(path.stem))
        if "gt" in visuals:
            images["img2"] = tensor2img([visuals["gt"]])
            results[index] = {key: float(calculate_metric(images, value)) for key, value in metrics.items()}
            for key, value in results[index].items():
                if not math.isfinite(value):
                    get_root_logger().warning(f"{path}: {key} is {value}")
    if opt["world_size"] > 1:
        shares: list[Any] = [None] * opt["world_size"]
        torch.distributed.all_gather_object(shares, results)
        results = {index: row for share in shares for index, row in share.items()}
    if not results:
        return {}
    return {key: sum(results[index][key] for index in sorted(results)) / len(results) for key in metrics}


def strip(images: list[Tensor]) -> Tensor:
    """Return the middle of an image in several versions side by side; pixels are repeated up to the largest scale.

    Args:
        images: (1, 1 or 3, h*s, w*s) in [0, 1], each with its own integer s; the first is the smallest.

    Returns:
        (3, height, sum of widths) as 8-bit values; each version has at most SHOWN_SIDE pixels a side.
    """
    height, width = images[0].shape[2:]
    largest = max(image.shape[2] for image in images) // height
    rows, columns = (min(SHOWN_SIDE // largest, length) for length in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    parts = []
    for image in images:
        scale = image.shape[2] // height
        part = image[0, :, top * scale : (top + rows) * scale, left * scale : (left + columns) * scale].float()
        part = part.repeat_interleave(largest // scale, dim=1).repeat_interleave(largest // scale, dim=2)
        parts.append(part.expand(3, -1, -1))
    return (torch.cat(parts, dim=2).clamp(0, 1) * 255).round().to(torch.uint8)
