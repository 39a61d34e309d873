"""Attention components. The options `layer_attention` and `spatial_attention` select a component by its name.

A component fills one of HAN's two slots:

- `layer`: takes a list of n feature maps, each (b, c, h, w), the deepest layer first, and returns (b, n*c, h, w). It
  may also have a method `mixing(feats)` that returns the matrix (b, n, n) of `out_i = sum_j mixing_ij feats_j`. HAN
  then folds this matrix into its next convolution, which is faster.
- `spatial`: takes one feature map (b, c, h, w) and returns a map of the same shape.

HAN passes a setting to the constructor only if the constructor has a parameter of that name. The settings are
`num_feat` (c) and, in the layer slot, `num_layer` (n) and `form` (HAN's `lam_form`).
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from han_arch.errors import UserError, unknown

SLOTS = ("layer", "spatial")
COMPONENTS: dict[str, tuple[str, type[nn.Module]]] = {}  # name -> (slot, class); filled by `register_component`
LOOKUPS: list[Callable[[str], type[nn.Module] | None]] = []  # for names not in COMPONENTS; filled by `add_lookup`

ComponentClass = TypeVar("ComponentClass", bound=type[nn.Module])


def register_component(slot: str) -> Callable[[ComponentClass], ComponentClass]:
    """Return a class decorator that registers a module as a component under its class name.

    Args:
        slot: slot of HAN that the component fills, "layer" or "spatial".

    Raises:
        ValueError: the slot is unknown, or another class is registered under the same name.
    """
    if slot not in SLOTS:
        raise ValueError(f"slot must be one of {', '.join(SLOTS)}; got {slot!r}")

    def decorate(cls: ComponentClass) -> ComponentClass:
        name = cls.__name__
        _, other = COMPONENTS.get(name, (slot, cls))
        # A class may register twice: a reload or a spawned worker imports its module again.
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            owner = f"{other.__module__}.{other.__qualname__}"
            raise ValueError(f"component name {name!r} is taken by {owner}; give your class another name")
        COMPONENTS[name] = (slot, cls)
        return cls

    return decorate


def registered_components() -> dict[str, type[nn.Module]]:
    """Return all registered components: name -> class."""
    return {name: cls for name, (_, cls) in COMPONENTS.items()}


def add_lookup(lookup: Callable[[str], type[nn.Module] | None]) -> None:
    """Add a function that looks up unregistered component names: it takes a name and returns a class or None.

    `register()` adds a function that searches BasicSR's ARCH_REGISTRY. So `han_arch.archs` does not import BasicSR.
    """
    if lookup not in LOOKUPS:
        LOOKUPS.append(lookup)


def build_component(name: str | None, slot: str, **settings: Any) -> nn.Module | None:
    """Build the component with this name; return None if the name is None.

    The constructor gets only the settings for which it has a parameter.

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
