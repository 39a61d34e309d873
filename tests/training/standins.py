"""Stand-ins for the tests of options: folders in the documented layout, and a small sound option file."""

import copy
from pathlib import Path
from typing import Any

from han_arch.opt import load, read, shipped

IMAGES = 4


class _Deleted:
    """Stands for a key that is taken out; named in the tests' names."""

    def __repr__(self) -> str:
        return "deleted"


DELETE = _Deleted()


def make_files(opt: dict[str, Any], folder: Path) -> None:
    """Make what the options name, under folder: a few empty images, LMDBs with their listing only, a checkpoint."""
    for dataset in opt["datasets"].values():
        for key in ("dataroot_gt", "dataroot_lq"):
            root = folder / dataset[key]
            root.mkdir(parents=True, exist_ok=True)
            names = [f"image{index}.png" for index in range(IMAGES)]
            if dataset["io_backend"]["type"] == "lmdb":
                (root / "meta_info.txt").write_text("".join(f"{name} (48,48,3) 1\n" for name in names))
            else:
                for name in names:
                    (root / name).touch()
    checkpoint = (opt.get("path") or {}).get("pretrain_network_g")
    if checkpoint:
        (folder / checkpoint).parent.mkdir(parents=True, exist_ok=True)
        (folder / checkpoint).touch()


def sound_options(name: str = "demo_HAN_x4") -> dict[str, Any]:
    """A shipped file's options with a network that is built at once."""
    opt = read.read(shipped.find(name))
    opt["network_g"].update(num_feat=8, num_group=1, num_block=1, squeeze_factor=4)
    return opt


def changed(opt: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with options set by their path, such as train:total_iter; DELETE takes one out."""
    opt = copy.deepcopy(opt)
    for path, value in changes.items():
        *parents, key = path.split(":")
        section = opt
        for parent in parents:
            section = section.setdefault(parent, {})
        if value is DELETE:
            section.pop(key, None)
        else:
            section[key] = copy.deepcopy(value)
    return opt


def found(changes: dict[str, Any], name: str = "demo_HAN_x4") -> list[str]:
    """Problems of a shipped file with changes, made by `changed`, in the current folder."""
    problems = load.find_problems(changed(sound_options(name), changes), is_train="test" not in name)
    return [("warning: " if problem.warning else "") + str(problem) for problem in problems]
