"""Attention components by name, the values of `layer_attention` and `spatial_attention` in an option file.

A component fills one of HAN's two slots:

- `layer`: takes the list of n feature maps, each (b, c, h, w), newest first; returns (b, n*c, h, w). It may also have
  `mixing(feats) -> (b, n, n)` with `out_i = sum_j mixing_ij feats_j`. HAN then folds the mixing into its next
  convolution.
- `spatial`: takes (b, c, h, w), returns the same shape.

The constructor gets those settings of HAN that it names: `num_feat` (c) and, in the layer slot, `num_layer` (n) and
`form` (HAN's `lam_form`).
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from han_arch.errors import UserError, unknown

SLOTS = ("layer", "spatial")
COMPONENTS: dict[str, tuple[str, type[nn.Module]]] = {}  # by name: slot and class; `register_component` fills it
LOOKUPS: list[Callable[[str], type[nn.Module] | None]] = []  # for names that COMPONENTS lacks; `add_lookup` fills it

ComponentClass = TypeVar("ComponentClass", bound=type[nn.Module])


def register_component(slot: str) -> Callable[[ComponentClass], ComponentClass]:
    """Class decorator that registers a module as a component under its class name.

    Args:
        slot: "layer" or "spatial", see the module's docstring.

    Raises:
        ValueError: the slot is unknown, or another class has the name.
    """
    if slot not in SLOTS:
        raise ValueError(f"slot must be one of {', '.join(SLOTS)}; got {slot!r}")

    def decorate(cls: ComponentClass) -> ComponentClass:
        name = cls.__name__
        _, other = COMPONENTS.get(name, (slot, cls))
        # A second import of a module (reload, main module of a spawned worker) defines the same class again.
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"component name {name!r} is taken by {other.__module__}.{other.__qualname__}")
        COMPONENTS[name] = (slot, cls)
        return cls

    return decorate


def registered_components() -> dict[str, type[nn.Module]]:
    """Return all registered components by name."""
    return {name: cls for name, (_, cls) in COMPONENTS.items()}


def add_lookup(lookup: Callable[[str], type[nn.Module] | None]) -> None:
    """Add a function from a name to a class or None, called for names that are not registered.

    `register()` adds BasicSR's ARCH_REGISTRY this way, so this room does not import BasicSR.
    """
    if lookup not in LOOKUPS:
        LOOKUPS.append(lookup)


def build_component(name: str | None, slot: str, **settings: Any) -> nn.Module | None:
    """Build the component of that name with those settings that its constructor names; None for None.

    Raises:
        UserError: the name is unknown, or the component belongs to the other slot.
    """
    if name is None:
        return None
    cls = _component(name, slot)
    accepted = inspect.signature(cls).parameters
    return cls(**{key: value for key, value in settings.items() if key in accepted})


def _component(name: str, slot: str) -> type[nn.Module]:
    if name in COMPONENTS:
        own_slot, cls = COMPONENTS[name]
        if own_slot != slot:
            raise UserError(f"{slot}_attention must be a {slot} component; {name} is a {own_slot} component")
        return cls
    for lookup in LOOKUPS:
        if (found := lookup(name)) is not None:
            return found
    fitting = [known for known, (known_slot, _) in COMPONENTS.items() if known_slot == slot]
    raise unknown(f"{slot}_attention", name, [*fitting, "~"])
