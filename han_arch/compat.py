"""Make BasicSR 1.4.2 work on today's packages. No other file changes another package's modules.

- Import fallbacks: newer releases of torchvision and SciPy dropped some modules. Our finder answers for them with the
  modules that have their functions now. It is the last in `sys.meta_path`, so existing modules are never replaced.
- `replace` sets one attribute of another package's module. The caller decides which, and why.
- `require_basicsr` and `require` import a package, or raise one clear line.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from operator import attrgetter
from types import ModuleType
from typing import Any

from han_arch.errors import UserError

# Dropped module -> the module that has its functions now, and who imports it ("" for our own old names in documents).
MOVED_MODULES = {
    "torchvision.transforms.functional_tensor": (
        "torchvision.transforms.functional",
        "torchvision dropped it in 0.17; basicsr/data/degradations.py imports it",
    ),
    "scipy.ndimage.filters": ("scipy.ndimage", "SciPy drops it in 2.0; basicsr/metrics/niqe.py imports it"),
    "han_arch.winograd": ("han_arch.speed.winograd", ""),
    "han_arch.winograd.convolution": ("han_arch.speed.winograd.convolution", ""),
    "han_arch.export.exporting": ("han_arch.export.write", ""),
}
_changes: dict[str, str] = {}


def changes() -> dict[str, str]:
    """Return this process's changes in other packages, oldest first: module or attribute -> why."""
    return dict(_changes)


def install_import_fallbacks() -> None:
    """Make the modules of MOVED_MODULES importable. Imports nothing; safe to call again."""
    if not any(type(finder).__name__ == _MovedModuleFinder.__name__ for finder in sys.meta_path):
        sys.meta_path.append(_MovedModuleFinder())


def replace(module_name: str, attribute: str, new: Any, why: str) -> None:
    """Set an attribute, dotted below the module ("FileClient._backends"), of another package's module.

    Args:
        module_name: the module; it is imported if necessary.
        attribute: an existing attribute.
        new: the new value.
        why: one line for the log and for `basicsr doctor`.

    Raises:
        AttributeError: no such attribute.
    """
    module = importlib.import_module(module_name)
    owner_path, _, name = attribute.rpartition(".")
    owner = attrgetter(owner_path)(module) if owner_path else module
    if getattr(owner, name) is not new:
        setattr(owner, name, new)
        _changes[f"{module_name}.{attribute}"] = why


def require_basicsr() -> ModuleType:
    """Import BasicSR and return it.

    Raises:
        UserError: it is not installed or cannot be imported; the message gives the reason and the remedy.
    """
    install_import_fallbacks()
    if importlib.util.find_spec("basicsr") is None:
        if sys.version_info >= (3, 13):
            raise UserError(
                "this command needs BasicSR 1.4.2, which cannot be built on Python 3.13 or later (this is "
                f"{sys.version_info.major}.{sys.version_info.minor}); use Python 3.10 to 3.12 for training and testing"
            )
        raise UserError(
            "this command needs BasicSR, which is not installed; run: pip install --no-build-isolation basicsr==1.4.2"
        )
    try:
        return importlib.import_module("basicsr")
    except ImportError as error:
        hint = "`basicsr doctor` shows more"
        if "libGL" in str(error):
            hint = "without a screen run: pip uninstall -y opencv-python; pip install opencv-python-headless"
        raise UserError(f"BasicSR is installed but cannot be imported: {error}; {hint}") from error


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package, which has the same name on PyPI, and return it.

    Raises:
        UserError: it cannot be imported; the message says how to install it, also by this extra of han_arch.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"{package} cannot be imported ({error}); run: pip install 'han_arch[{extra}]', or pip install {package}"
        ) from error


def installed_version(distribution: str) -> str | None:
    """Return an installed distribution's version, or None; imports nothing."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def plugins() -> list[tuple[importlib.metadata.EntryPoint, str]]:
    """Return the entry points of the group `basicsr.plugins`, each with its distribution and version; loads none."""
    entries = importlib.metadata.entry_points(group="basicsr.plugins")
    return [(entry, f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value) for entry in entries]


class _MovedModuleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Create modules under old names that look their attributes up in the new modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in MOVED_MODULES:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in MOVED_MODULES)
        return importlib.machinery.ModuleSpec(fullname, self, origin="han_arch.compat", is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        home_name, why = MOVED_MODULES[module.__name__]
        if why:
            _changes[module.__name__] = f"{why}; {home_name} replaces it"
        home = importlib.import_module(home_name)
        # Look up later, since the new module may be half imported at this moment.
        module.__getattr__ = lambda name: getattr(home, name)  # type: ignore[method-assign]
