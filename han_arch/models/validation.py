"""Running a network over a validation or test set and measuring it, shared among the processes of a run."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger, imwrite, tensor2img
from torch.utils.data import default_collate
from tqdm import tqdm


def validate(model: Any, dataset: Any, image_name: Any, *, save_img: bool) -> dict[str, float] | None:
    """Mean of each metric over a set; every process takes its share of the images and gets the same means.

    Deviations from BasicSR's validation: images of several sets do not overwrite each other; an output that is not
    finite, or a metric that is not, is told by its file name and makes the mean nan; a set without GT gives no metrics.

    Args:
        model: an SRModel with `feed_data`, `test` and `get_current_visuals`.
        dataset: BasicSR's dataset; its samples have "lq", "lq_path" and perhaps "gt".
        image_name: (set's name, image's name) -> path of the saved image.
        save_img: whether to save the outputs.

    Returns:
        metric -> mean; None when no metric can be computed.
    """
    metrics = model.opt["val"].get("metrics") or {}
    results: dict[int, dict[str, float]] = {}
    for index, sample in _share(dataset, model.opt):
        if hasattr(model, "gt"):
            del model.gt  # of the last training batch
        model.feed_data(sample)
        model.test()
        name = Path(sample["lq_path"][0]).stem
        if not model.output.isfinite().all():
            get_root_logger().warning(f"{sample['lq_path'][0]}: the output is not finite; it is measured as nan")
            results[index] = dict.fromkeys(metrics, math.nan)
            continue
        visuals = model.get_current_visuals()
        images = {"img": tensor2img([visuals["result"]])}
        if save_img:
            imwrite(images["img"], image_name(dataset.opt["name"], name))
        if "gt" in visuals:
            images["img2"] = tensor2img([visuals["gt"]])
            results[index] = {key: float(calculate_metric(images, value)) for key, value in metrics.items()}
            for key, value in results[index].items():
                if not math.isfinite(value):
                    get_root_logger().warning(f"{sample['lq_path'][0]}: {key} is {value}")
    results = _gather(results, model.opt)
    if not metrics or not results:
        return None
    return {key: sum(results[index][key] for index in sorted(results)) / len(results) for key in metrics}


def _share(dataset: Any, opt: dict[str, Any]) -> Iterator[tuple[int, Any]]:
    indices: Any = range(opt["rank"], len(dataset), opt["world_size"])
    if opt["val"].get("pbar") and opt["rank"] == 0:
        indices = tqdm(indices, desc=dataset.opt["name"], unit="image")
    for index in indices:
        yield index, default_collate([dataset[index]])


def _gather(results: dict[int, dict[str, float]], opt: dict[str, Any]) -> dict[int, dict[str, float]]:
    if opt["world_size"] == 1:
        return results
    shares: list[Any] = [None] * opt["world_size"]
    torch.distributed.all_gather_object(shares, results)
    return {index: row for share in shares for index, row in share.items()}
