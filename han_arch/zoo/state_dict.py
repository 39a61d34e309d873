"""Find a network's state dict in the content of a checkpoint, and check each of its tensors."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from han_arch.errors import UserError, printable

# Keys of the weights in a checkpoint, the preferred key first: averaged weights before others. BasicSR writes
# params_ema and params; other training code writes the rest.
WEIGHT_KEYS = (
    "params_ema", "g_ema", "ema_state_dict", "state_dict_ema", "model_ema", "net_g_ema", "ema",
    "params", "state_dict", "model_state_dict", "model", "net_g", "netG", "generator", "net", "weights", "module",
    "checkpoint",
)  # fmt: skip
_DEPTH = 3  # largest number of keys on the way to the weights
# Parts of weight names that torch.compile, FSDP and activation checkpointing add.
_WRAPPERS = re.compile(r"(^|\.)(?:(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+")


@dataclass(frozen=True)
class RawCheckpoint:
    """The weights and options in a checkpoint.

    Attributes:
        tensors: the weights, on the CPU. Each is a plain tensor of finite numbers; floating-point numbers are float32.
        network_g: options of the network; None if the file does not contain them.
        weight_key: key of the weights in the file, such as "params_ema" or "model.state_dict"; None for a bare state
            dict.
        keys: keys of all weights in the file, the preferred key first.
    """

    tensors: dict[str, Tensor]
    network_g: dict[str, Any] | None
    weight_key: str | None
    keys: tuple[str, ...] = ()


def most_bytes(stored: int) -> int:
    """Return the most bytes that the weights in a number of stored bytes may need.

    Layers may share weights, and weights may be compressed, but not much.
    """
    return 2 * stored + 2**20


def find_weights(
    content: Any,
    source: str,
    weight_key: str | None = None,
    *,
    required: bool = True,
    network_g: Mapping[str, Any] | None = None,
    size: int | None = None,
) -> RawCheckpoint:
    """Find the weights in the content of a checkpoint, which may be nested mappings.

    Args:
        content: the decoded content of the file.
        source: path of the file, for messages.
        weight_key, required: as in `read_raw`.
        network_g: options of the network, if they are not in the content.
        size: size of the file in bytes; None: the content does not come from a file.

    Raises:
        UserError: the content has no weights, lacks `weight_key`, or has a weight that is not a plain tensor of finite
            numbers.
    """
    if weight_key is not None and not isinstance(weight_key, str):
        raise UserError(f"the key of the weights must be text, such as params_ema; got a {type(weight_key).__name__}")
    found = [leaf for leaf in _leaves(content, weight_key, network_g=network_g) if _has_tensors(leaf[-1])]
    keys = tuple(".".join(path) for path, _, _ in found if path)
    wanted = [leaf for leaf in found if weight_key in leaf[0]]
    if weight_key is not None and required and not wanted and found:
        has = f"these keys with weights: {', '.join(keys)}" if keys else "a bare state dict, which needs no key"
        raise UserError(f"{source} has no weights under the key {weight_key!r}; it has {has}")
    if not found:
        raise UserError(f"{source} must contain a network's weights (tensors keyed by name); got {_describe(content)}")
    path, network_g, state = (wanted or found)[0]
    if network_g is not None and not isinstance(network_g, Mapping):
        raise UserError(f"{source}: network_g must be a mapping of options; got a {type(network_g).__name__}")
    if odd := [short(key) for key, value in state.items() if not isinstance(value, Tensor)]:
        under = f"values under {'.'.join(path)}" if path else "a mapping with values"
        raise UserError(f"{source} must contain only tensors as weights; got {under} that are no tensors: {odd[0]}")
    tensors = _check(_unwrap(state, source), source, size)
    return RawCheckpoint(tensors, None if network_g is None else dict(network_g), ".".join(path) or None, keys)


def of_one_network(tensors: Mapping[str, Tensor], names: Iterable[str], source: str) -> dict[str, Tensor]:
    """Return the weights of one network under its own names, without the name of the module that contains it.

    For example, Lightning saves the weight `conv_first.weight` of the module `model` as `model.conv_first.weight`, next
    to the weights of a discriminator. If there are several such modules, the averaged one is chosen.

    Args:
        names: names of weights, at least one of which the network has.

    Raises:
        UserError: several modules have these weights, and not exactly one is averaged ("ema" in its name).
    """
    names = list(names)
    if any(name in tensors for name in names):
        return dict(tensors)
    owners = {key.removesuffix(name) for name in names for key in tensors if key.endswith(f".{name}")}
    if len(owners) > 1:
        averaged = {owner for owner in owners if "ema" in re.split(r"[._]", owner)}
        if len(averaged) != 1:
            listed = ", ".join(short(owner) for owner in sorted(owners)[:5])
            raise UserError(f"{source} has the weights of several networks ({listed}); save the state dict of one")
        owners = averaged
    for owner in owners:
        return {key.removeprefix(owner): value for key, value in tensors.items() if key.startswith(owner)}
    return dict(tensors)


def short(name: Any, longest: int = 80) -> str:
    """Return a name from a file as one line of limited length for a message."""
    text = name if isinstance(name, str) else type(name).__name__
    return printable(text[:longest]) + ("..." if len(text) > longest else "")


def _leaves(
    content: Any, weight_key: str | None, path: tuple[str, ...] = (), network_g: Any = None
) -> Iterator[tuple[tuple[str, ...], Any, Mapping[Any, Any]]]:
    """Yield the candidates for the weights: the keys on the way, the options beside them, and the mapping."""
    if not isinstance(content, Mapping):
        return
    network_g = content.get("network_g", network_g)
    keys = [key for key in dict.fromkeys((weight_key, *WEIGHT_KEYS)) if isinstance(content.get(key), Mapping)]
    if not keys or len(path) == _DEPTH:
        yield path, network_g, content
        return
    for key in keys:
        yield from _leaves(content[key], weight_key, (*path, str(key)), network_g)


def _unwrap(state: Mapping[Any, Any], source: str) -> dict[str, Tensor]:
    """Remove the parts of names that wrappers of the network add, such as `module.` and `_orig_mod.`, in any order."""
    if odd := [type(key).__name__ for key in state if not isinstance(key, str)]:
        raise UserError(f"{source}: the names of all weights must be text; got a name of the type {odd[0]}")
    names = {key: _WRAPPERS.sub(r"\1", key) for key in state}
    while names and all(name.startswith("module.") for name in names.values()):
        names = {key: name.removeprefix("module.") for key, name in names.items()}
    if len(set(names.values())) < len(names):
        raise UserError(f"{source} has the same weight twice, with and without the name of a wrapper such as _orig_mod")
    return {name: state[key] for key, name in names.items()}


def _check(tensors: Mapping[str, Tensor], source: str, size: int | None) -> dict[str, Tensor]:
    """Return the tensors in float32, contiguous, each with its own memory. Refuse what is not plain, finite numbers."""
    for name, value in tensors.items():
        if kind := _odd_kind(value):
            raise UserError(f"{source}: each weight must be a plain tensor of real numbers; {short(name)} is {kind}")
    # A tensor can repeat one stored number a billion times. Compare sizes before anything is copied.
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in tensors.values()}
    stored = sum(storages.values()) if size is None else size
    named = sum(value.numel() * value.element_size() for value in tensors.values())
    if named > most_bytes(stored):
        raise UserError(
            f"{source}: its weights have {named:,} bytes, but only {stored:,} bytes are stored; save the weights "
            "again, each as a contiguous tensor"
        )
    checked = {name: _own(value) for name, value in tensors.items()}
    bad = {name: value for name, value in checked.items() if not value.isfinite().all()}
    for name, value in bad.items():
        count = int((~value.isfinite()).sum())
        raise UserError(
            f"{source}: all weights must be finite; {short(name)} contains nan or inf ({count} of {value.numel()} "
            f"values), as do {len(bad) - 1} other weights; pass an earlier checkpoint of the training"
        )
    return checked


def _odd_kind(value: Tensor) -> str:
    if value.is_nested:
        return "a nested tensor"
    if value.layout != torch.strided:
        return "a sparse tensor"
    if value.is_quantized:
        return "a quantised tensor"
    if value.is_meta:
        return "a tensor without values (device meta)"
    if value.is_complex():
        return "a tensor of complex numbers"
    if type(value) not in (Tensor, torch.nn.Parameter):
        return f"a {type(value).__name__}"
    try:
        value.new_zeros(1).float()
    except (RuntimeError, NotImplementedError, TypeError):
        return f"a tensor of the type {value.dtype}"
    return ""


def _own(value: Tensor) -> Tensor:
    value = value.detach()
    if value.is_floating_point():
        value = value.float()
    if value.untyped_storage().nbytes() != value.numel() * value.element_size():
        value = value.clone()  # a view, which would keep the memory of the whole storage
    return value.contiguous()


def _describe(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    if {"optimizers", "schedulers"} <= content.keys():
        return "a training state; pass the network of the same iteration, such as models/net_g_5000.pth"
    inner = [short(key) for key, value in content.items() if isinstance(value, Mapping) and _has_tensors(value)]
    if inner:
        return (
            f"weights under the unknown keys {', '.join(inner[:5])}; choose one with `basicsr zoo convert --param_key`"
        )
    others = [short(key) for key in content]
    return f"a mapping with values that are not tensors: {', '.join(others[:5])}" if others else "an empty mapping"


def _has_tensors(content: Mapping[Any, Any]) -> bool:
    # Settings beside the weights may be tensors too, such as a number of updates, but only of one value.
    return any(isinstance(value, Tensor) and value.dim() > 0 for value in content.values())
