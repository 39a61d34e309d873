"""Read the weights, network options and headers of checkpoint files. Code in a file is never executed.

The content of a file decides its format. The suffix of its name means nothing.
"""

import hashlib
import io
import json
import mmap
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from han_arch.errors import UserError
from han_arch.zoo.state_dict import RawCheckpoint, find_weights, most_bytes, short

_WANTED = "pass a checkpoint (.pth, .pt or .safetensors)"
_HEAD = 265  # bytes at the start of a file that tell its format
_PICKLE = b"\x80"  # first byte of a PyTorch file in the format before 1.6
_LEVELS = 8  # most levels of lists and mappings in a header
_LENGTH_BYTES = 8  # a safetensors file begins with the length of its header
# Files that people pass by mistake: a pattern for the first bytes, and what the file is and how to mend it.
_OTHERS = tuple(
    (re.compile(pattern, re.DOTALL), what)
    for pattern, what in (
        (rb"\Z", "is damaged, because it is empty; download or copy it again"),
        (rb"version https://git-lfs", "is a Git LFS pointer, not the file itself; run `git lfs pull`"),
        (rb"(?i:\s*<(!doctype|html|\?xml))", "is a web page; download the file itself"),
        (rb"\x1f\x8b", "is a gzip archive; unpack it with gunzip"),
        (rb"BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "is a compressed archive; unpack it"),
        (rb".{257}ustar", "is a tar archive; unpack it"),
        (
            rb"\x08[\x01-\x1f][\x12\x1a\x22\x2a\x32\x3a\x42]",
            f"is an ONNX model, which has no training weights; {_WANTED}",
        ),
        (rb".{4}TFL3", f"is a TensorFlow Lite model; {_WANTED}"),
        (rb"GGUF", f"is a GGUF model; {_WANTED}"),
        (rb"\x89HDF", f"is an HDF5 file; {_WANTED}"),
        (rb"\x93NUMPY", f"is a NumPy array; {_WANTED}"),
        (rb"\x89PNG|\xff\xd8\xff|GIF8|II\*\x00|MM\x00\*|RIFF....WEBP|BM.{4}\x00{4}", f"is an image; {_WANTED}"),
        (rb"[\t\n\r -~]{32}", f"is a text file; {_WANTED}"),
    )
)


def read_raw(
    path: str | Path, weight_key: str | None = None, *, required: bool = True, sha256: str | None = None
) -> RawCheckpoint:
    """Read a checkpoint from a safetensors file or a PyTorch file.

    A safetensors file contains the network options as JSON text, under `network_g` in its metadata.

    Args:
        path: path of the file.
        weight_key: key of the weights in the file. None: the first of WEIGHT_KEYS that has weights. A file without
            any key must be a bare state dict.
        required: whether the file must contain `weight_key`. If False, another key of WEIGHT_KEYS may replace it.
        sha256: hash that the file must have, as hex digits. The bytes that are hashed are the bytes that are loaded.

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: the file has another hash, is damaged, is not a checkpoint, lacks `weight_key`, or would run code
            when it is loaded; or a weight is not a plain tensor of finite numbers.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; {_WANTED}")
    if not path.is_file():
        raise FileNotFoundError(f"no such checkpoint: {path}")
    with path.open("rb") as file:
        stream = file if sha256 is None else _in_memory(file, path, sha256)
        content: Any
        if _is_safetensors(stream):
            content, options = _read_safetensors(stream, path)
            network_g = _decode(options, "network_g", path) if options else None
        else:
            content, network_g = _read_torch(stream, path), None
        size = stream.seek(0, os.SEEK_END)
    return find_weights(content, str(path), weight_key, required=required, network_g=network_g, size=size)


def read_torch(path: Path) -> Any:
    """Return the content of a PyTorch file, such as a checkpoint or a training state, with tensors on the CPU.

    Raises:
        UserError: the file is damaged, is not a PyTorch file, expands to much more than its size, or would run code.
        OSError: the file cannot be opened.
    """
    with path.open("rb") as stream:
        return _read_torch(stream, path)


def read_header(path: Path) -> dict[str, Any]:
    """Read the metadata in the header of a safetensors file; decode `network_g`, `normalisation` and `provenance`.

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: the file is not a safetensors file, or one of the three decoded values is not a mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    with _damage_reported(path), safe_open(path, framework="pt", device="cpu") as file:
        metadata: dict[str, Any] = dict(file.metadata() or {})
    for key in ("network_g", "normalisation", "provenance"):
        if key in metadata:
            metadata[key] = _decode(metadata[key], key, path)
    return metadata


def is_safetensors(path: Path) -> bool:
    """Return whether the content of a file is in the safetensors format: the length of a header, then JSON."""
    with path.open("rb") as file:
        return _is_safetensors(file)


def _is_safetensors(file: BinaryIO) -> bool:
    head = file.read(_LENGTH_BYTES + 1)
    file.seek(0)
    return head[_LENGTH_BYTES:] == b"{"


def _in_memory(file: BinaryIO, path: Path, sha256: str) -> io.BytesIO:
    data = file.read()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{path} changed while it was read; run the command again")
    return io.BytesIO(data)


def _decode(text: str, key: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {key} in its header is not JSON; {_WANTED}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: {key} in the header must be a mapping; got a {type(value).__name__}")
    if not _is_shallow(value):
        raise UserError(f"{path}: {key} in the header must not have more than {_LEVELS} levels")
    return value


def _is_shallow(value: Any, levels: int = _LEVELS) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in inner)


def _read_safetensors(file: BinaryIO, path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Return the tensors of a safetensors file, and the text of `network_g` in its header."""
    with _damage_reported(path):
        if isinstance(file, io.BytesIO):
            data = file.getvalue()
            tensors = load(data)  # checks the header
            end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
            metadata = json.loads(data[_LENGTH_BYTES:end]).get("__metadata__") or {}
            return tensors, metadata.get("network_g")
        with safe_open(path, framework="pt", device="cpu") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            return tensors, (opened.metadata() or {}).get("network_g")


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, KeyError, TypeError, ValueError) as error:  # the last three: a type that PyTorch lacks
        reason = short(str(error).splitlines()[0], 200)
        raise UserError(f"{path} is damaged or is not a safetensors file ({reason}); {_WANTED}") from error


def _read_torch(file: BinaryIO, path: Path) -> Any:
    head = file.read(_HEAD)
    if what := next((what for pattern, what in _OTHERS if pattern.match(head)), None):
        raise UserError(f"{path} {what}")
    if head.startswith(b"PK"):
        _check_archive(file, path)
    elif not head.startswith(_PICKLE):
        raise UserError(f"{path} is damaged or is not a PyTorch file; {_WANTED}")
    elif isinstance(file, io.BytesIO):
        _check_pickle(file.getvalue(), path)
    else:
        try:
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, OSError) as error:  # for example a file of /proc
            raise UserError(f"{path} is not a PyTorch file; {_WANTED}") from error
        with whole:
            _check_pickle(whole, path)
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about rare kinds of tensors, which are refused later
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # In torch's long message, the word GLOBAL comes before the name of the refused function or class.
        words = str(error).split()
        refused = next((words[i + 1] for i, word in enumerate(words[:-1]) if word == "GLOBAL"), None)
        if refused:
            raise UserError(
                f"{path} was not loaded, because it would run code (function or class {short(refused.strip('`'))}); "
                "pass a checkpoint that contains only weights"
            ) from error
        raise UserError(f"{path} is damaged or is not a PyTorch file with weights; {_WANTED}") from error
    except Exception as error:  # on a damaged file, torch.load raises many types of errors
        raise UserError(f"{path} is damaged or is not a PyTorch file; {_WANTED}") from error


def _check_archive(file: BinaryIO, path: Path) -> None:
    """Check before loading that a zip archive has the weights of `torch.save`, and how much memory they need."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except Exception as error:  # on a damaged file, zipfile raises many types of errors
        raise UserError(f"{path} is damaged or is not a PyTorch file; {_WANTED}") from error
    names = [member.filename for member in members]
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        raise UserError(
            f"{path} is a TorchScript archive, which contains a program; pass the checkpoint that it was made from, or "
            "save its weights with torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE) if you trust it"
        )
    if "data.pkl" not in inner:
        what = "torch.export program" if inner & {"archive_format", "models/model.json"} else "zip archive"
        raise UserError(f"{path} is a {what} without PyTorch weights ({short(', '.join(names[:3]))}); {_WANTED}")
    size, expanded = file.seek(0, os.SEEK_END), sum(member.file_size for member in members)
    if expanded > most_bytes(size):
        raise UserError(
            f"{path} was not loaded, because its {size:,} bytes expand to {expanded:,} bytes; save the weights again "
            "with torch.save, which does not compress them"
        )
    for member in members:
        if member.filename.endswith("data.pkl"):
            try:
                with zipfile.ZipFile(file) as archive:
                    program = archive.read(member)
            except Exception as error:  # as above
                raise UserError(f"{path} is damaged or is not a PyTorch file; {_WANTED}") from error
            _check_pickle(program, path)


def _check_pickle(program: Any, path: Path) -> None:
    """Refuse the one function that torch.load allows and that fills memory of any size: bytearray(10**12)."""
    if program.find(b"\nbytearray\n") >= 0:
        raise UserError(
            f"{path} was not loaded, because it would run code (function or class bytearray); pass a checkpoint that "
            "contains only weights"
        )
