"""Validation: upscale the images of a data set and compute metrics. The processes of a run share this work."""

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger, tensor2img
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from han_arch import files

SHOWN_IMAGES = 3  # number of images that each process shows in TensorBoard
SHOWN_SIDE = 192  # largest height and width of a shown image, in GT pixels


def validate(model: Any, dataset: Any, label: int | str, tb_logger: Any, save_img: bool) -> dict[str, float]:
    """Return the mean of each metric over a data set. All processes share the work and return the same means.

    Differences from BasicSR's validation:

    - If an output is not finite, its metrics are nan. The log names the image. It also names each image with a metric
      that is not finite.
    - A data set without GT images has no metrics. BasicSR would use the GT images of the last training batch.
    - In training, each data set has its own folder of saved outputs.

    Args:
        model: an SRModel.
        dataset: its items have the keys "lq" and "lq_path", and "gt" if there is ground truth.
        label: number of the iteration; in `basicsr test`, the name of the experiment.
        tb_logger: TensorBoard writer that gets the first images. None: no writer.
        save_img: save the outputs as PNG files.

    Returns:
        Dict from metric name to mean; empty if `val:metrics` is empty or GT images are missing.
    """
    opt, name = model.opt, dataset.opt["name"]
    metrics = opt["val"].get("metrics") or {}
    results: dict[int, dict[str, float]] = {}
    shown = 0
    hides_bar = opt["rank"] != 0 or not opt["val"].get("pbar")
    indices = range(opt["rank"], len(dataset), opt["world_size"])
    for index in tqdm(indices, desc=name, unit="image", disable=hides_bar):
        sample = default_collate([dataset[index]])
        path = Path(sample["lq_path"][0])
        if hasattr(model, "gt"):
            del model.gt  # GT of the last training batch or image
        model.feed_data(sample)
        model.test()
        if not model.output.isfinite().all():
            consequence = ", so its metrics are nan" if "gt" in sample else ""
            get_root_logger().warning(f"{path}: the output is not finite (nan or inf){consequence}")
            if "gt" in sample:
                results[index] = dict.fromkeys(metrics, math.nan)
            continue
        visuals = model.get_current_visuals()
        images = {"img": tensor2img([visuals["result"]])}
        if tb_logger is not None and shown < SHOWN_IMAGES:
            versions = [visuals[key] for key in ("lq", "result", "gt") if key in visuals]
            tb_logger.add_image(f"{name}/{path.stem}, LQ SR GT", strip(versions), label)
            shown += 1
        if save_img:
            folder = Path(opt["path"]["visualization"], name, path.stem if model.is_train else "")
            suffix = label if model.is_train else opt["val"].get("suffix") or opt["name"]
            write_image(images["img"], str(folder / f"{path.stem}_{suffix}.png"))
        if "gt" in visuals:
            images["img2"] = tensor2img([visuals["gt"]])
            results[index] = {key: float(calculate_metric(images, value)) for key, value in metrics.items()}
            for key, value in results[index].items():
                if not math.isfinite(value):
                    get_root_logger().warning(f"{path}: the metric {key} is {value}")
    if opt["world_size"] > 1:
        shares: list[Any] = [None] * opt["world_size"]
        torch.distributed.all_gather_object(shares, results)
        results = {index: row for share in shares for index, row in share.items()}
    if not results:
        return {}
    return {key: sum(results[index][key] for index in sorted(results)) / len(results) for key in metrics}


def strip(images: list[Tensor]) -> Tensor:
    """Cut out the middle of each version of an image, enlarge the parts to the same size and put them side by side.

    Args:
        images: the versions, such as LQ, output and GT. Each is (1, c, height, width) in [0, 1], c = 1 or 3. The
            sizes are integer multiples of the first version's size.

    Returns:
        uint8 image (3, height, sum of widths). Each part is at most SHOWN_SIDE pixels high and wide.
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


def write_image(img: np.ndarray, file_path: str, params: list[int] | None = None, auto_mkdir: bool = True) -> None:
    """Write an image, uint8 (h, w, 3) BGR or (h, w), like BasicSR's `imwrite`, but completely or not at all.

    OpenCV crashes if the name of a file is not UTF-8, and leaves a part of the file on a full disk.

    Args:
        file_path: path of the file; its suffix sets the format.
        params: parameters of OpenCV's encoder.
        auto_mkdir: make the folder of the file.

    Raises:
        OSError: the system refused to write.
    """
    path = Path(file_path)
    done, data = cv2.imencode(path.suffix, img, params or [])
    if not done:
        raise OSError(f"OpenCV could not encode {path}")
    if auto_mkdir:
        path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, data.tobytes())
