"""Reads a checkpoint file without running code from it: the tensors and the construction options beside them."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from han_arch.errors import UserError

# In the order of preference; the last are what other trainers write.
WEIGHT_KEYS = ("params_ema", "params", "state_dict", "model_state_dict")
_WRAPPER_PREFIXES = ("module.", "_orig_mod.")  # DataParallel's, torch.compile's


@dataclass(frozen=True)
class RawCheckpoint:
    """What stands in a file: tensors by name, the `network_g` options, and the key that the tensors stood under.

    The last two are None where the file has none.
    """

    tensors: dict[str, Tensor]
    network_g: dict[str, Any] | None
    weight_key: str | None


def read_raw(path: str | Path, weight_key: str | None = None) -> RawCheckpoint:
    """Read a `.safetensors` file (options as JSON in its metadata, under `network_g`) or a PyTorch file.

    Args:
        path: the file.
        weight_key: which weights of a file with several are taken; None or one that the file lacks: the first of
            WEIGHT_KEYS that it has. A file that holds a bare state dict is taken as it is.

    Raises:
        FileNotFoundError: no such file.
        UserError: the file is damaged, no checkpoint, or would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such checkpoint: {path}")
    if path.suffix == ".safetensors":
        content, network_g = _read_safetensors(path)
    else:
        content = _read_torch(path)
        network_g = content.get("network_g") if isinstance(content, Mapping) else None
    tensors, used_key = _weights(content, weight_key)
    if not tensors:
        raise UserError(f"{path} holds {_describe(content)}; wanted a network's weights (tensors by name)")
    if network_g is not None and not isinstance(network_g, Mapping):
        raise UserError(f"{path}: network_g must be a mapping of options; got {_describe(network_g)}")
    return RawCheckpoint(tensors, None if network_g is None else dict(network_g), used_key)


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except pickle.UnpicklingError as error:
        # torch's message names the refused global, in one of its many lines.
        words = str(error).split()
        named = next((words[i + 1] for i, word in enumerate(words[:-1]) if word == "GLOBAL"), None)
        if named:
            raise UserError(
                f"{path} is a pickle that would run code or build objects ({named.strip('`')}), refused; "
                "wanted weights only"
            ) from error
        raise UserError(
            f"{path} is damaged, a pickle of another kind or no PyTorch file; wanted a checkpoint (.pth, .pt, "
            ".safetensors)"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, UnicodeDecodeError, TypeError) as error:
        raise UserError(
            f"{path} is damaged, cut short or no PyTorch file; wanted a checkpoint (.pth, .pt, .safetensors)"
        ) from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            options = (file.metadata() or {}).get("network_g")
            return {key: file.get_tensor(key) for key in file.keys()}, json.loads(options) if options else None  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is damaged, cut short or no safetensors file ({reason}); wanted a checkpoint (.pth, .pt, "
            ".safetensors)"
        ) from error


def _weights(content: Any, weight_key: str | None) -> tuple[dict[str, Tensor], str | None]:
    if not isinstance(content, Mapping):
        return {}, None
    keys = (key for key in (weight_key, *WEIGHT_KEYS) if key is not None)
    used_key = next((key for key in keys if isinstance(content.get(key), Mapping)), None)
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
    if isinstance(content, Mapping):
        for key in WEIGHT_KEYS:
            weights = content.get(key)
            odd = [k for k, v in weights.items() if not isinstance(v, Tensor)] if isinstance(weights, Mapping) else []
            if odd:
                return f"weights under {key} of which {', '.join(map(str, odd[:3]))} is no tensor"
        return f"a mapping with {', '.join(map(str, list(content)[:5])) or 'nothing in it'}"
    return f"a {type(content).__name__}"
