"""What goes into which of BasicSR's registries; `register()` puts it there."""

from collections.abc import Sequence
from typing import Any

from han_arch import compat
from han_arch.archs import components
from han_arch.errors import UserError


def register() -> dict[str, list[str]]:
    """Put HAN and its components into ARCH_REGISTRY, HANModel into MODEL_REGISTRY, our losses into LOSS_REGISTRY.

    May be called again. Names registered by other packages stay as they are: a clash raises, and then nothing at all
    has been registered.

    Returns:
        registry name -> the names that are ours in it.

    Raises:
        UserError: BasicSR cannot be imported, or one of our names is taken by another class.
    """
    compat.require_basicsr()
    rows = _table()
    for registry, name, cls in rows:
        taken = dict(iter(registry)).get(name)
        if taken is not None and not _same_class(taken, cls):
            raise UserError(
                f"{name} in BasicSR's {registry._name} registry is {taken.__module__}.{taken.__qualname__}; "
                f"han_arch registers its own {name} there: import only one of the two"
            )
    ours: dict[str, list[str]] = {}
    for registry, name, cls in rows:
        if name not in registry:
            registry.register(cls)
        ours.setdefault(registry._name, []).append(name)
    components.add_lookup(_component_from_basicsr)
    return ours


def _table() -> list[tuple[Any, str, type]]:
    from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY

    from han_arch.archs import HAN
    from han_arch.models.han_model import HANModel
    from han_arch.models.losses import OWN

    rows: dict[Any, Sequence[type]] = {
        ARCH_REGISTRY: [HAN, *components.registered_components().values()],
        MODEL_REGISTRY: [HANModel],
        LOSS_REGISTRY: OWN,
    }
    return [(registry, cls.__name__, cls) for registry, classes in rows.items() for cls in classes]


def _same_class(one: type, other: type) -> bool:
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _component_from_basicsr(name: str) -> type | None:
    from basicsr.utils.registry import ARCH_REGISTRY

    return dict(iter(ARCH_REGISTRY)).get(name)
