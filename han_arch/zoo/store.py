"""Weight files: where an entry's file is, and how the zoo's files are written.

A file of the zoo is safetensors. Its header's `__metadata__` maps names to text: `network_g` (JSON, every construction
argument), `normalisation` (JSON), `provenance` (JSON) and `format`. So the file alone builds the right network.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import save
from torch import Tensor

from han_arch import download, files
from han_arch.errors import UserError
from han_arch.files import CACHE_VARIABLE, cache_folder, hash_file
from han_arch.speed.precision import PRECISIONS, Precision
from han_arch.zoo.entry import Entry
from han_arch.zoo.recognise import normalisation

SHIPPED = Path(__file__).parent / "weights"
HASH_DIGITS = 8
_LENGTH_BYTES = 8  # a safetensors file begins with the length of its header: 64 bits, little-endian


def present(entry: Entry) -> Path | None:
    """Return the entry's file in the package or the cache, if any, without checking its hash.

    A file of unknown hash is never taken from the cache: nothing proves that it is the right one.
    """
    if entry.sha256 is None:
        return None
    for folder in (SHIPPED, cache_folder()):
        if (folder / entry.file).is_file():
            return folder / entry.file
    return None


def obtain(entry: Entry, say: Callable[[str], None]) -> Path:
    """Return the entry's file with the right hash: from the package, the cache or its address.

    Args:
        entry: of the table.
        say: receives a line for each download and for a damaged file in the cache.

    Raises:
        UserError: no program can download it, the download fails (DownloadError), or the package's file is damaged.
    """
    if entry.sha256 is None:
        raise UserError(f"{entry.name} cannot be fetched by a program: {entry.how_to_get}")
    shipped = SHIPPED / entry.file
    if shipped.is_file():
        if hash_file(shipped) == entry.sha256:
            return shipped
        raise UserError(f"{shipped} is damaged: its hash is not {entry.sha256}; install the package again")
    cached = cache_folder() / entry.file
    if _is_right(cached, entry):
        return cached
    if entry.url is None:
        raise UserError(
            f"{entry.name}: {entry.file} is missing from {SHIPPED} and has no address; install the package again"
        )
    with files.clear_refusal(cached.parent, f"{CACHE_VARIABLE} sets another cache folder"):
        cached.parent.mkdir(parents=True, exist_ok=True)
        # Several processes of one training may need the same file.
        lock = FileLock(cached.with_name(f".{cached.name}.lock")).acquire()
    with lock:
        if _is_right(cached, entry):
            return cached
        if cached.exists():
            say(f"{cached} is damaged; it is downloaded again")
            cached.unlink()
        say(f"fetching {entry.name} from {entry.url} to {cached.parent}")
        remote = download.RemoteFile(entry.url, entry.file, entry.size, f"sha256:{entry.sha256}")
        return download.fetch(remote, cached.parent, say)


def _is_right(path: Path, entry: Entry) -> bool:
    return path.is_file() and hash_file(path) == entry.sha256


@dataclass(frozen=True)
class Weights:
    """The contents of a weight file.

    Attributes:
        tensors: the network's state dict.
        network_g: `type` and every construction argument.
        provenance: facts about the weights; anything that JSON can hold.
    """

    tensors: Mapping[str, Tensor]
    network_g: Mapping[str, Any]
    provenance: Mapping[str, Any]

    def in_precision(self, precision: Precision) -> "Weights":
        """Return the same weights as contiguous tensors of a precision on the CPU."""
        tensors = {key: value.detach().to("cpu", precision.dtype).contiguous() for key, value in self.tensors.items()}
        return replace(self, tensors=tensors)


def as_bytes(weights: Weights, precision: Precision = PRECISIONS["fp32"]) -> bytes:
    """Return the bytes of a safetensors file; equal contents give equal bytes."""
    metadata = {
        "format": "pt",
        "network_g": _json(weights.network_g),
        "normalisation": _json(normalisation(weights.network_g)),
        "provenance": _json(weights.provenance),
    }
    data = save(dict(weights.in_precision(precision).tensors), metadata)
    # safetensors writes the metadata in another order each time.
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
    metadata = dict(sorted(header.pop("__metadata__").items()))
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # the format requires aligned tensors
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + data[_LENGTH_BYTES + length :]


def write_named(weights: Weights, folder: Path, name: str, precision: Precision = PRECISIONS["fp32"]) -> Path:
    """Write NAME-HASH8.safetensors into a folder and return the file."""
    data = as_bytes(weights, precision)
    path = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:HASH_DIGITS]}.safetensors"
    files.write(path, data)
    return path


def write_new(weights: Weights, target: str, name: str, precision: Precision = PRECISIONS["fp32"]) -> Path:
    """Write a new weight file and return it.

    Args:
        weights: its contents.
        target: a file ending in .safetensors or, for BasicSR's form, .pth; or a folder, in which `write_named` names
            the file. A new folder needs a / at the end.
        name: used in a folder.
        precision: of the tensors.

    Raises:
        UserError: target has another suffix or exists, or the system refuses to write.
    """
    path = Path(target)
    with files.clear_refusal(path, "make room or choose another place"):
        if path.is_dir() or target.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            return write_named(weights, path, name, precision)
        if path.suffix not in (".safetensors", ".pth"):
            raise UserError(
                f"OUT must end in .safetensors or .pth, or be a folder (a new one with a final /); got {path}"
            )
        if path.exists():
            raise UserError(f"{path} exists; name another file, or remove it first")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            files.write(path, as_bytes(weights, precision))
            return path
        converted = weights.in_precision(precision)
        with files.replacing(path, durable=True) as file:
            torch.save(
                {
                    "network_g": dict(converted.network_g),
                    "params": dict(converted.tensors),
                    "provenance": dict(converted.provenance),
                },
                file,
            )
    return path


def hash_in_name(path: Path) -> str | None:
    """Return the hex digits at the end of a file's name, as torch.hub reads them; None if there are none."""
    match = re.search(rf"-([0-9a-f]{{{HASH_DIGITS},64}})\.[^.]+$", path.name)
    return match[1] if match else None


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), ensure_ascii=False, sort_keys=True)
