"""The zoo's own files: safetensors whose header says how the network is built, normalised, and where it comes from.

The header's `__metadata__` maps names to text: `network_g` (JSON, every construction argument), `normalisation` (JSON),
`provenance` (JSON) and `format`. So the file alone builds the right network. Equal contents give equal bytes: the
library writes the metadata in another order each time, so the header is put in order here.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from han_arch.archs.han_arch import DIV2K_RGB_MEAN
from han_arch.errors import UserError

HASH_DIGITS = 8
_LENGTH_BYTES = 8  # a safetensors file begins with its header's length, 64 bits, little-endian
_CHUNK = 2**20


def as_bytes(
    tensors: Mapping[str, Tensor],
    network_g: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    half: bool = False,
) -> bytes:
    """The contents of a weight file.

    Args:
        tensors: the network's state dict.
        network_g: `type` and every construction argument.
        provenance: what else is to be known of the weights; anything that JSON can hold.
        half: store float16 instead of float32.
    """
    dtype = torch.float16 if half else torch.float32
    plain = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in tensors.items()}
    metadata = {
        "format": "pt",
        "network_g": _json(network_g),
        "normalisation": _json(normalisation(network_g)),
        "provenance": _json(provenance),
    }
    return _in_order(save(plain, metadata))


def normalisation(network_g: Mapping[str, Any]) -> dict[str, Any]:
    """What the network does with its input, RGB in [0, 1]: (input - rgb_mean) * img_range."""
    mean, channels = network_g.get("rgb_mean"), network_g.get("num_in_ch", 3)
    if mean is None:  # as HAN fills it
        mean = [sum(DIV2K_RGB_MEAN) / 3] if channels == 1 else DIV2K_RGB_MEAN
    return {
        "input": "grey, [0, 1]" if channels == 1 else "RGB, [0, 1]",
        "rgb_mean": list(mean),
        "img_range": network_g.get("img_range", 255.0),
    }


def read_header(path: Path) -> dict[str, Any]:
    """The metadata of a weight file; `network_g`, `normalisation` and `provenance` decoded.

    Raises:
        FileNotFoundError: no such file.
        UserError: no safetensors file, or its metadata is not what it must be.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata: dict[str, Any] = dict(file.metadata() or {})
        for key in ("network_g", "normalisation", "provenance"):
            if key in metadata:
                metadata[key] = json.loads(metadata[key])
                if not isinstance(metadata[key], dict):
                    raise UserError(f"{path}: {key} in the header must be a mapping")
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is damaged, cut short or no safetensors file: {error}".splitlines()[0]) from error
    return metadata


def write(data: bytes, folder: Path, name: str) -> Path:
    """Write contents to NAME-HASH8.safetensors in a folder, whole or not at all.

    Returns:
        The file.
    """
    path = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:HASH_DIGITS]}.safetensors"
    write_atomically(data, path)
    return path


def write_atomically(data: bytes, path: Path) -> None:
    """Write beside the path, then rename: a reader sees the old file or the whole new one."""
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(beside, 0o644)  # mkstemp makes files that only their owner reads
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """The 64 hex digits of a file's SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_in_name(path: Path) -> str | None:
    """The hex digits that a file's name ends in, as torch.hub reads them; None where it ends in none."""
    match = re.search(rf"-([0-9a-f]{{{HASH_DIGITS},64}})\.[^.]+$", path.name)
    return match[1] if match else None


def _in_order(data: bytes) -> bytes:
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
    metadata = dict(sorted(header.pop("__metadata__").items()))
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # tensors stay aligned, as the format wants
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + data[_LENGTH_BYTES + length :]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), ensure_ascii=False, sort_keys=True)
