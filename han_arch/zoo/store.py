"""Find or download the weight file of a zoo entry, and write new weight files.

Weight files have the safetensors format. The metadata in their header contains three JSON texts: `network_g` (every
option of the network), `normalisation` and `provenance`. So `load_model` needs no option file.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from han_arch import download, files
from han_arch.errors import UserError
from han_arch.files import CACHE_VARIABLE, cache_folder, hash_file
from han_arch.locks import held
from han_arch.speed.precision import PRECISIONS, Precision
from han_arch.zoo.entry import Entry
from han_arch.zoo.read import is_safetensors, read_header
from han_arch.zoo.recognise import Checkpoint, normalisation

SHIPPED = Path(__file__).parent / "weights"
HASH_DIGITS = 8
_LENGTH_BYTES = 8  # a safetensors file begins with the length of its header as a 64-bit number, little-endian


def present(entry: Entry) -> Path | None:
    """Return the path of the entry's file in the package or the cache folder; None if neither contains the file.

    `present` does not check the hash. If the entry has no hash, nobody could check the file, so the result is None.
    """
    if entry.sha256 is None:
        return None
    folders = [SHIPPED]
    with contextlib.suppress(FileNotFoundError):  # this user has no home folder
        folders.append(cache_folder())
    return next((path for folder in folders if (path := folder / entry.file).is_file()), None)


def obtain(entry: Entry, say: Callable[[str], None]) -> Path:
    """Return the path of the entry's file in the package or the cache folder, after checking its hash.

    If the file is in neither folder, `obtain` downloads it into the cache folder. `say` is called with each log line.

    Raises:
        UserError: the file can only be downloaded by hand, or the file in the package is damaged or missing.
        DownloadError: the download fails.
    """
    if entry.sha256 is None:
        raise UserError(f"{entry.name} cannot be downloaded automatically; instead, {entry.how_to_get}")
    shipped = SHIPPED / entry.file
    if shipped.is_file():
        if hash_file(shipped) == entry.sha256:
            return shipped
        raise UserError(f"{shipped} is damaged: its SHA-256 must be {entry.sha256}; install the package again")
    cached = cache_folder() / entry.file
    if _is_right(cached, entry):
        return cached
    if entry.url is None:
        raise UserError(
            f"{entry.name}: the file {entry.file} is missing from the folder {SHIPPED}; install the package again"
        )
    # Several processes of one training may need the same file.
    with (
        files.clear_refusal(cached.parent, f"set {CACHE_VARIABLE} to another cache folder"),
        held(cached, f"the download of {entry.name}", wait=True),
    ):
        if _is_right(cached, entry):
            return cached
        if os.path.lexists(cached):
            say(f"{cached} is damaged; downloading it again")
            cached.unlink()
        say(f"downloading {entry.name} from {entry.url} to {cached.parent}")
        remote = download.RemoteFile(entry.url, entry.file, entry.size, f"sha256:{entry.sha256}")
        return download.fetch(remote, cached.parent, say)


def _is_right(path: Path, entry: Entry) -> bool:
    return path.is_file() and hash_file(path) == entry.sha256


@dataclass(frozen=True)
class Weights:
    """The contents of a weight file: a state dict, all options of the network, and facts about the weights' origin."""

    tensors: Mapping[str, Tensor]
    network_g: Mapping[str, Any]
    provenance: Mapping[str, Any]

    def in_precision(self, precision: Precision) -> "Weights":
        """Return a copy of these weights; its tensors are contiguous, on the CPU, and have the given precision.

        Raises:
            UserError: a value is too large for the precision.
        """
        plain = torch.contiguous_format
        tensors = {
            key: value.detach().to("cpu", precision.dtype, copy=True, memory_format=plain)  # no two share their memory
            for key, value in self.tensors.items()
        }
        for key, value in tensors.items():
            if not value.isfinite().all() and self.tensors[key].isfinite().all():
                raise UserError(f"{precision.name} cannot hold the values of {key}; store the weights as fp32")
        return replace(self, tensors=tensors)


def as_bytes(weights: Weights, precision: Precision = PRECISIONS["fp32"]) -> bytes:
    """Return the bytes of a safetensors file; equal weights always give equal bytes."""
    network_g, provenance = dict(weights.network_g), dict(weights.provenance)
    facts = {"network_g": network_g, "normalisation": normalisation(network_g), "provenance": provenance}
    texts = {key: files.json_text(value, sort_keys=True) for key, value in facts.items()}
    # A file name in the provenance may have bytes that are not UTF-8; JSON has an escape for each.
    texts = {key: text.encode(errors="backslashreplace").decode() for key, text in texts.items()}
    data = save(dict(weights.in_precision(precision).tensors), {"format": "pt", **texts})
    # safetensors writes the metadata in a random order. Sorting them makes the bytes reproducible.
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
    metadata = dict(sorted(header.pop("__metadata__").items()))
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # spaces, because the format requires aligned tensors
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + data[_LENGTH_BYTES + length :]


def write_named(weights: Weights, folder: Path, name: str, precision: Precision = PRECISIONS["fp32"]) -> Path:
    """Write the file NAME-HASH8.safetensors into a folder and return its path."""
    data = as_bytes(weights, precision)
    path = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:HASH_DIGITS]}.safetensors"
    files.write(path, data)
    return path


def write_converted(checkpoint: Checkpoint, network_g: Mapping[str, Any], target: str, half: bool) -> Path:
    """Write a checkpoint and all options of its network to a new file, and return the path of the new file.

    An existing file is not overwritten. The provenance in the new file names the checkpoint and its SHA-256.

    Args:
        target: path of a .safetensors file, of a .pth file (in BasicSR's format), of an existing folder, or of a new
            folder (with / at the end). In a folder, the new file is CHECKPOINT-HASH8.safetensors.
        half: whether to store the weights as float16 instead of float32.

    Raises:
        UserError: `target` has an unknown suffix; `target` is an existing file; or the file cannot be written.
    """
    source, path, precision = Path(checkpoint.source), Path(target), PRECISIONS["fp16" if half else "fp32"]
    provenance = read_header(source).get("provenance", {}) if is_safetensors(source) else {}
    origin = {"converted_from": source.name, "sha256": hash_file(source), "was": checkpoint.kind}
    weights = Weights(checkpoint.tensors, network_g, {**provenance, **origin})
    with files.clear_refusal(path, "free disk space or choose another folder"):
        if path.is_dir() or target.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            return write_named(weights, path, source.stem.removesuffix(f"-{hash_in_name(source)}"), precision)
        suffix = path.suffix.lower()
        if suffix not in (".safetensors", ".pth"):
            raise UserError(f"OUT must be FILE.safetensors, FILE.pth, an existing folder or NEWFOLDER/; got {path}")
        if path.exists():
            raise UserError(f"{path} already exists; remove it, or choose another file name")
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".safetensors":
            files.write(path, as_bytes(weights, precision))
        else:
            params = weights.in_precision(precision).tensors
            content = {"network_g": weights.network_g, "params": params, "provenance": weights.provenance}
            with files.replacing(path, durable=True) as file:
                torch.save({key: dict(value) for key, value in content.items()}, file)
    return path


def hash_in_name(path: Path) -> str | None:
    """Return the hash at the end of a file name, such as 0123abcd in x-0123abcd.pth; None if the name has no hash."""
    match = re.search(rf"-([0-9a-f]{{{HASH_DIGITS},64}})\.[^.]+$", path.name)
    return match[1] if match else None
