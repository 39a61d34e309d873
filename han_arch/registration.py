"""Add the classes of han_arch to BasicSR's registries."""

from typing import Any

from han_arch import compat
from han_arch.archs import components
from han_arch.errors import UserError


def register() -> dict[str, list[str]]:
    """Register HAN, its components, HANModel and the losses of han_arch with BasicSR.

    A second call changes nothing.

    Returns:
        Dict from registry ("arch", "model" or "loss") to the names of han_arch's classes in that registry.

    Raises:
        UserError: BasicSR cannot be imported, or another package has a class of the same name. The registries are then
            unchanged.
    """
    compat.require_basicsr()
    from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY

    from han_arch.archs.han_arch import HAN
    from han_arch.models.han_model import HANModel
    from han_arch.models.losses import OWN

    classes: dict[str, tuple[Any, list[type]]] = {
        "arch": (ARCH_REGISTRY, [HAN, *(cls for _, cls in components.COMPONENTS.values())]),
        "model": (MODEL_REGISTRY, [HANModel]),
        "loss": (LOSS_REGISTRY, list(OWN)),
    }
    for label, (registry, ours) in classes.items():
        registered = dict(iter(registry))
        for cls in ours:
            other = registered.get(cls.__name__, cls)
            if _full_name(other) != _full_name(cls):
                raise UserError(
                    f"BasicSR's {label} registry already has the class {_full_name(other)}; "
                    "han_arch has a class of the same name; import only one of the two packages"
                )
    for registry, ours in classes.values():
        for cls in ours:
            if cls.__name__ not in registry:
                registry.register(cls)
    components.add_lookup(_component_from_basicsr)
    return {label: [cls.__name__ for cls in ours] for label, (_, ours) in classes.items() if ours}


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _component_from_basicsr(name: str) -> type | None:
    from basicsr.utils.registry import ARCH_REGISTRY

    return dict(iter(ARCH_REGISTRY)).get(name)
