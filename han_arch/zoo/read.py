"""Read the weights, network options and headers of checkpoint files. Code in a file is never executed."""

import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from han_arch.errors import UserError

# Keys of the weights in a checkpoint, the preferred key first. Training code outside BasicSR writes the last two.
WEIGHT_KEYS = ("params_ema", "params", "state_dict", "model_state_dict")
_WRAPPER_PREFIXES = ("module.", "_orig_mod.")  # added by DataParallel and torch.compile
_WANTED = "pass a checkpoint (.pth, .pt or .safetensors)"


@dataclass(frozen=True)
class RawCheckpoint:
    """The contents of a checkpoint file.

    Attributes:
        network_g: options of the network; None if the file does not contain them.
        weight_key: key of the weights in the file, such as "params_ema"; None if the file is a bare state dict.
    """

    tensors: dict[str, Tensor]
    network_g: dict[str, Any] | None
    weight_key: str | None


def read_raw(path: str | Path, weight_key: str | None = None) -> RawCheckpoint:
    """Read a checkpoint from a `.safetensors` file or a PyTorch file.

    A `.safetensors` file contains the network options as JSON text, under `network_g` in its metadata.

    Args:
        path: path of the file.
        weight_key: preferred key of the weights. If the file lacks this key, read_raw uses the first key of
            WEIGHT_KEYS that the file contains. If the file has none of these keys, it must be a bare state dict.

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: the file is damaged, is not a checkpoint, or would run code when it is loaded.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such checkpoint: {path}")
    if path.suffix == ".safetensors":
        with _open_safetensors(path) as file:
            content = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            options = (file.metadata() or {}).get("network_g")
            network_g = json.loads(options) if options else None
    else:
        content = _read_torch(path)
        network_g = content.get("network_g") if isinstance(content, Mapping) else None
    tensors, used_key = _weights(content, weight_key)
    if not tensors:
        raise UserError(f"{path} must contain a network's weights (tensors keyed by name); got {_describe(content)}")
    if network_g is not None and not isinstance(network_g, Mapping):
        raise UserError(f"{path}: network_g must be a mapping of options; got {_describe(network_g)}")
    return RawCheckpoint(tensors, None if network_g is None else dict(network_g), used_key)


def read_header(path: Path) -> dict[str, Any]:
    """Read the metadata in the header of a safetensors file; decode `network_g`, `normalisation` and `provenance`.

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: the file is not a safetensors file, or one of the three decoded values is not a mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    with _open_safetensors(path) as file:
        metadata: dict[str, Any] = dict(file.metadata() or {})
        for key in ("network_g", "normalisation", "provenance"):
            if key in metadata:
                metadata[key] = json.loads(metadata[key])
                if not isinstance(metadata[key], dict):
                    raise UserError(f"{path}: {key} in the header must be a mapping")
    return metadata


@contextmanager
def _open_safetensors(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, json.JSONDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged or is not a safetensors file ({reason}); {_WANTED}") from error


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except pickle.UnpicklingError as error:
        # In torch's long message, the word GLOBAL comes before the name of the refused function or class.
        words = str(error).split()
        refused = next((words[i + 1] for i, word in enumerate(words[:-1]) if word == "GLOBAL"), None)
        if refused:
            raise UserError(
                f"{path} was not loaded, because it would run code (function or class {refused.strip('`')}); "
                "pass a checkpoint that contains only weights"
            ) from error
        raise UserError(f"{path} is damaged or is not a PyTorch file with weights; {_WANTED}") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, UnicodeDecodeError, TypeError) as error:
        raise UserError(f"{path} is damaged or is not a PyTorch file; {_WANTED}") from error


def _weights(content: Any, weight_key: str | None) -> tuple[dict[str, Tensor], str | None]:
    """Return the weights by name, and their key in the file. If a value is not a tensor, return {} as the weights."""
    if not isinstance(content, Mapping):
        return {}, None
    used_key = next((key for key in (weight_key, *WEIGHT_KEYS) if isinstance(content.get(key), Mapping)), None)
    if used_key is not None:
        content = content[used_key]
    if not all(isinstance(value, Tensor) for value in content.values()):
        return {}, used_key
    tensors = {str(key): value for key, value in content.items()}
    for prefix in _WRAPPER_PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors, used_key


def _describe(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    for key in WEIGHT_KEYS:
        if isinstance(content.get(key), Mapping) and (odd := _list_others(content[key])):
            return f"values under {key} that are not tensors: {', '.join(odd[:3])}"
    odd = _list_others(content)
    return f"a mapping with values that are not tensors: {', '.join(odd[:5])}" if odd else "an empty mapping"


def _list_others(content: Mapping[Any, Any]) -> list[str]:
    return [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
