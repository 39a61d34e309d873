"""Make BasicSR 1.4.2 work with current package versions. Only this file changes modules of other packages.

Import fallbacks: BasicSR imports modules that newer releases of torchvision and SciPy removed. An import finder creates
them from the modules that replace them. Python asks this finder last, so it never replaces an existing module.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from functools import reduce
from types import ModuleType
from typing import Any

from han_arch.errors import UserError

# Removed module -> (module that replaces it, reason that `basicsr doctor` prints). The reason is "" for an old name of
# a module of han_arch.
MOVED_MODULES = {
    "torchvision.transforms.functional_tensor": (
        "torchvision.transforms.functional",
        "torchvision 0.17 removed this module, but basicsr/data/degradations.py imports it",
    ),
    "scipy.ndimage.filters": (
        "scipy.ndimage",
        "SciPy 2.0 removes this module, but basicsr/metrics/niqe.py imports it",
    ),
    "han_arch.winograd": ("han_arch.speed.winograd", ""),
    "han_arch.winograd.convolution": ("han_arch.speed.winograd.convolution", ""),
    "han_arch.export.exporting": ("han_arch.export.write", ""),
}
_changes: dict[str, str] = {}


def changes() -> dict[str, str]:
    """Return a dict from each changed module or attribute of other packages to the reason. Oldest change first."""
    return dict(_changes)


def install_import_fallbacks() -> None:
    """Make the modules of MOVED_MODULES importable. They are not imported now. A second call changes nothing."""
    if not any(type(finder).__name__ == _MovedModuleFinder.__name__ for finder in sys.meta_path):
        sys.meta_path.append(_MovedModuleFinder())


def replace(module_name: str, attribute: str, new: Any, why: str) -> None:
    """Set an attribute in a module of another package. The module is imported if necessary.

    Args:
        attribute: an existing attribute of the module, or a path such as "FileClient._backends".
        why: reason in one line, for the log and for `basicsr doctor`.

    Raises:
        AttributeError: the attribute does not exist.
    """
    *path, name = attribute.split(".")
    owner = reduce(getattr, path, importlib.import_module(module_name))
    if getattr(owner, name) is not new:
        setattr(owner, name, new)
        _changes[f"{module_name}.{attribute}"] = why


def require_basicsr() -> ModuleType:
    """Import BasicSR and return it.

    Raises:
        UserError: BasicSR is not installed or cannot be imported. The message names the cause and the remedy.
    """
    install_import_fallbacks()
    if importlib.util.find_spec("basicsr") is None:
        if sys.version_info >= (3, 13):
            raise UserError(
                "BasicSR 1.4.2 is not installed, and it cannot be built on Python 3.13 or later; to train and test, "
                f"use Python 3.10 to 3.12 (this is {sys.version_info.major}.{sys.version_info.minor})"
            )
        raise UserError("BasicSR is not installed; run: pip install --no-build-isolation basicsr==1.4.2")
    try:
        return importlib.import_module("basicsr")
    except ImportError as error:
        remedy = "run basicsr doctor to see all faults of this installation"
        if "libGL" in str(error):
            remedy = "without a screen, run: pip uninstall -y opencv-python; pip install opencv-python-headless"
        raise UserError(f"BasicSR is installed but cannot be imported: {error}; {remedy}") from error


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package and return it. `pip install 'han_arch[EXTRA]'` installs it.

    Raises:
        UserError: the package cannot be imported. The message contains the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"{package} cannot be imported ({error}); run: pip install 'han_arch[{extra}]', or: pip install {package}"
        ) from error


def installed_version(distribution: str) -> str | None:
    """Return the version of a PyPI package, or None if it is not installed. The package is not imported."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def plugins() -> list[tuple[importlib.metadata.EntryPoint, str]]:
    """List the entry points of `basicsr.plugins`, each with its package and version. The plugins are not loaded."""
    entries = importlib.metadata.entry_points(group="basicsr.plugins")
    return [(entry, f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value) for entry in entries]


class _MovedModuleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """An import finder that creates the modules in MOVED_MODULES, with the attributes of their replacements."""

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
            _changes[module.__name__] = f"{why}; {home_name} is used instead"
        home = importlib.import_module(home_name)
        # Read each attribute on first use, because the import of the new module may be unfinished now.
        module.__getattr__ = lambda name: getattr(home, name)  # type: ignore[method-assign]
