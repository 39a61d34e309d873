"""Attention components. The options `layer_attention` and `spatial_attention` select a component by its name.

A component fills one of HAN's two slots:

- `layer`. Input: n feature maps, each (b, c, h, w), deepest layer first. Output: one map (b, n*c, h, w). HAN is faster
  if the component computes `out_i = sum_j M_ij feats_j` and its method `mixing(feats)` returns M as (b, n, n). HAN
  then folds M into its next convolution.
- `spatial`. Input: one feature map (b, c, h, w). Output: a map of the same shape.

The constructor may have these parameters, and HAN passes their values: `num_feat` (c) and, in the layer slot,
`num_layer` (n) and `form` (HAN's `lam_form`).
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
    """Return a decorator that registers a class as a component for a slot ("layer" or "spatial") under the class name.

    Raises:
        ValueError: the slot is unknown, or another class is registered under the same name.
    """
    if slot not in SLOTS:
        raise ValueError(f"slot must be one of {', '.join(SLOTS)}; got {slot!r}")

    def decorate(cls: ComponentClass) -> ComponentClass:
        name = cls.__name__
        _, other = COMPONENTS.get(name, (slot, cls))
        # The same class may register twice: a reload or a spawned worker imports its module again.
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            owner = f"{other.__module__}.{other.__qualname__}"
            raise ValueError(f"component name {name!r} is already used by {owner}; give your class another name")
        COMPONENTS[name] = (slot, cls)
        return cls

    return decorate


def add_lookup(lookup: Callable[[str], type[nn.Module] | None]) -> None:
    """Add a function that finds other components, such as BasicSR's. `lookup(name)` returns a class or None."""
    if lookup not in LOOKUPS:
        LOOKUPS.append(lookup)


def build_component(name: str | None, slot: str, **settings: Any) -> nn.Module | None:
    """Build a component by its name; return None if the name is None.

    Raises:
        UserError: the name is unknown, or the component is for the other slot.
    """
    if name is None:
        return None
    own_slot, cls = COMPONENTS.get(name, (slot, None))
    if own_slot != slot:
        raise UserError(f"{slot}_attention must be a {slot} component; {name} is a {own_slot} component")
    cls = cls or next(filter(None, (lookup(name) for lookup in LOOKUPS)), None)
    if cls is None:
        fitting = [known for known, (known_slot, _) in COMPONENTS.items() if known_slot == slot]
        raise unknown(f"{slot}_attention", name, [*fitting, "~"])
    accepted = inspect.signature(cls).parameters
    return cls(**{key: value for key, value in settings.items() if key in accepted})
