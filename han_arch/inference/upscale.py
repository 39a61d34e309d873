"""`han_arch.upscale`: super-resolve a NumPy array, a Pillow image or a tensor."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from han_arch.archs.han_arch import HAN
from han_arch.images.formats import PILLOW_BYTES
from han_arch.images.header import header_of
from han_arch.images.picture import Picture, from_pillow, to_pillow
from han_arch.inference.engines import get_engine
from han_arch.inference.pixels import upscale_pixels
from han_arch.inference.plan import DEFAULT_BUDGET, Plan, PlanRequest, choose, parse_size

_TOLERANCE = 1 / 255  # floats may leave [0, 1] by this much, a rounding error of 8 bits
Run = Callable[[np.ndarray], np.ndarray]  # an image, (h, w, 1 to 4) of uint8, uint16 or float32 -> the upscaled image
Images = TypeVar("Images", NDArray[np.generic], Image.Image, Tensor)


def upscale(
    image: Images,
    model: str | Path | HAN = "han-s-x4",
    *,
    memory: str | int = DEFAULT_BUDGET,
    device: str = "auto",
    dtype: str = "fp32",
    self_ensemble: bool = False,
    winograd: bool = False,
    plan: Plan | None = None,
) -> Images:
    """Super-resolve an image. The pixels are the same as in a lossless file that `basicsr upscale` writes.

    Several threads may call this function at the same time. The four most recently used models stay in memory.

    Args:
        image: the image, in one of three forms:
            A NumPy array, (h, w) or (h, w, c), of uint8, uint16, float16, float32 or float64. Floats are in [0, 1].
            A Pillow image. Palette, CMYK and 1-bit images become RGB or grey. The EXIF orientation is applied.
            A tensor of floats in [0, 1], (c, h, w) or (b, c, h, w), on any device.
            The number of channels c is 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha).
        model: name or path of a model for `han_arch.load_model`, or a HAN network.
        memory: memory limit of the program, in bytes or as a text such as "2G". The upscaled image is not counted.
        device: "cuda", "xpu", "mps", "cpu", or "auto" for the first of them that is available.
        dtype: precision of the computation: "fp32", "bf16" or "fp16".
        self_ensemble: whether to return the mean of the outputs for the image's eight flips and transposes. The mean
            is slightly better, but takes eight times as long.
        winograd: whether to use Winograd's algorithm, which saves about a third of the time. It needs fp32 on the CPU
            and a C compiler. Pixels are the same up to rounding. See `han_arch.use_winograd`.
        plan: plan to use. By default, the memory limit decides the plan.

    Returns:
        The upscaled image, scale times as high and wide, with the type, dtype and number of channels of `image`. Floats
        are clipped to [0, 1]. A tensor is on the input's device, without a gradient. A Pillow image keeps its ICC
        profile and DPI.

    Raises:
        TypeError: the type or dtype of the image or the model is not supported.
        ValueError: the image has an unsupported shape or colour mode, no pixels, or floats that leave [0, 1] by
            more than 1/255.
        UserError (a ValueError): the memory limit is too small, or the device, dtype or model does not work.
        FileNotFoundError: the model does not exist.

    Example:
        >>> import han_arch, numpy as np
        >>> han_arch.upscale(np.zeros((48, 64, 3), np.uint8), "han-s-x4").shape  # doctest: +SKIP
        (192, 256, 3)
    """
    engine, budget = get_engine(model, device, dtype, winograd), parse_size(memory, "memory")

    def run(pixels: np.ndarray, writing: int = 0) -> np.ndarray:
        if 0 in pixels.shape:
            raise ValueError(f"an image must have pixels; got an array of shape {pixels.shape}")
        request = PlanRequest(pixels.shape, pixels.itemsize, engine.cost, budget, self_ensemble, writing)
        return upscale_pixels(pixels, engine, plan or choose(request), self_ensemble).pixels

    if isinstance(image, Image.Image):
        if plan is None and getattr(image, "tile", None):  # Pillow has not decoded it yet
            header = header_of(image)
            shape, itemsize, cost = header.shape, header.itemsize, engine.cost
            choose(PlanRequest(shape, itemsize, cost, budget, self_ensemble, PILLOW_BYTES, header.reading))
        picture = from_pillow(image)
        if picture.pixels.dtype == np.uint16 and picture.pixels.shape[2] == 2:
            raise ValueError("Pillow has no mode for 16-bit grey with a transparent colour; pass an array (h, w, 2)")
        return to_pillow(Picture(run(picture.pixels, PILLOW_BYTES), picture.icc, picture.dpi))
    if isinstance(image, Tensor):
        return _upscale_tensor(image, run)
    if isinstance(image, np.ndarray):
        return _upscale_array(image, run)
    raise TypeError(f"image must be a NumPy array, a Pillow image or a tensor; got {type(image).__name__}")


def _upscale_array(image: np.ndarray, run: Run) -> np.ndarray:
    if image.dtype not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        raise TypeError(f"an array must contain uint8, uint16, or floats in [0, 1]; got {image.dtype}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 2, 3, 4)):
        raise ValueError(f"an array must have the shape (h, w) or (h, w, 1 to 4); got {image.shape}")
    pixels = image if image.ndim == 3 else image[..., None]
    if image.dtype.kind == "f":  # the input of the network is always float32
        pixels = pixels.astype(np.float32)
        _check_range(pixels)
    result = run(pixels).astype(image.dtype, copy=False)
    return result if image.ndim == 3 else result[..., 0]


def _check_range(pixels: np.ndarray) -> None:
    if not pixels.size:  # `run` refuses an image without pixels
        return
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("pixel values must be finite; got nan or infinity")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        found = f"floats must be in [0, 1]; got {low:.6g} to {high:.6g}"
        raise ValueError(f"{found}; {'divide by 255' if low >= 0 and 2 < high <= 255 else 'scale or clip the values'}")


def _upscale_tensor(image: Tensor, run: Run) -> Tensor:
    if not image.is_floating_point():
        raise TypeError(f"a tensor must contain floats in [0, 1]; got {image.dtype}")
    if image.dim() not in (3, 4) or image.shape[-3] not in (1, 2, 3, 4):
        raise ValueError(f"a tensor must be (c, h, w) or (b, c, h, w) with 1 to 4 channels; got {tuple(image.shape)}")
    batch = image.detach().reshape(-1, *image.shape[-3:]).permute(0, 2, 3, 1).float().cpu().numpy()
    if not len(batch):
        raise ValueError("a tensor must contain at least one image; got an empty batch")
    _check_range(batch)
    results = [torch.from_numpy(run(pixels)).permute(2, 0, 1) for pixels in batch]
    stacked = torch.stack(results) if image.dim() == 4 else results[0].contiguous()
    return stacked.to(image.device, image.dtype)
