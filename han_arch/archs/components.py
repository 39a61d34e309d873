"""Attention components by name: what an option file's `layer_attention` and `spatial_attention` may say.

A component fills one of HAN's two slots:

- `layer`: called with the list of n feature maps, each (b, c, h, w), newest first; returns (b, n*c, h, w). One that
  also has `mixing(feats) -> (b, n, n)`, for which `out_i = sum_j mixing_ij feats_j`, lets HAN fold it into the
  convolution behind it.
- `spatial`: called with (b, c, h, w); returns the same shape.

Its constructor is given those of HAN's settings that it names: `num_feat` (c) and, in the layer slot, `num_layer` (n)
and `form` (HAN's `lam_form`).
"""

import difflib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

SLOTS = ("layer", "spatial")

_components: dict[str, tuple[str, type[nn.Module]]] = {}
_further_lookups: list[Callable[[str], type[nn.Module] | None]] = []

Component = TypeVar("Component", bound=type[nn.Module])


def register_component(slot: str) -> Callable[[Component], Component]:
    """Class decorator that makes a module available under its class name.

    Args:
        slot: "layer" or "spatial", see the module's docstring.

    Raises:
        ValueError: unknown slot, or the name is taken by another class.
    """
    if slot not in SLOTS:
        raise ValueError(f"slot must be one of {', '.join(SLOTS)}; got {slot!r}")

    def decorate(cls: Component) -> Component:
        name = cls.__name__
        taken = _components.get(name)
        # A module that is imported twice (reload, spawned worker's main) defines the same class anew.
        if taken and (taken[1].__module__, taken[1].__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"component name {name!r} is taken by {taken[1].__module__}.{taken[1].__qualname__}")
        _components[name] = (slot, cls)
        return cls

    return decorate


def registered_components() -> dict[str, type[nn.Module]]:
    """All registered components by name."""
    return {name: cls for name, (_, cls) in _components.items()}


def add_lookup(lookup: Callable[[str], type[nn.Module] | None]) -> None:
    """Ask `lookup` too for names that are not registered here; it returns a class or None.

    `register()` adds BasicSR's ARCH_REGISTRY this way, so that this room needs no import of BasicSR.
    """
    if lookup not in _further_lookups:
        _further_lookups.append(lookup)


def build_component(name: str | None, slot: str, **settings: Any) -> nn.Module | None:
    """The component of that name, built with those settings that its constructor names; None for None.

    Raises:
        ValueError: unknown name, or a component of the other slot.
    """
    if name is None:
        return None
    cls = _find(name, slot)
    accepted = inspect.signature(cls).parameters
    return cls(**{key: value for key, value in settings.items() if key in accepted})


def _find(name: str, slot: str) -> type[nn.Module]:
    known = [known for known, (known_slot, _) in _components.items() if known_slot == slot]
    if name in _components:
        actual_slot, cls = _components[name]
        if actual_slot != slot:
            raise ValueError(
                f"{name} is a {actual_slot} component; {slot}_attention takes one of {', '.join(known)} or ~"
            )
        return cls
    for lookup in _further_lookups:
        found = lookup(name)
        if found is not None:
            return found
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise ValueError(f"{slot}_attention must be one of {', '.join(known)} or ~; got {name!r}{hint}")
