"""Stand-ins for option files and the folders that they name."""

import copy
import functools
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch

from han_arch.images.write import encode_png
from han_arch.opt import load, read
from han_arch.opt.normalise import RunRequest, normalise

IMAGES = 4
LQ_SIDE = 48  # side of the LQ images, enough for the crops of the shipped files


class _Deleted:
    """A mark for a key to remove, readable in the names of tests."""

    def __repr__(self) -> str:
        return "deleted"


DELETE = _Deleted()


@functools.cache
def blank(side: int) -> bytes:
    """The PNG bytes of a black square; `side` is in pixels."""
    return encode_png(np.zeros((side, side, 3), np.uint8))


def make_files(opt: dict[str, Any], folder: Path) -> None:
    """Make the files that options name under a folder: a few small images, in folders or LMDBs, and a checkpoint."""
    scale = opt.get("scale", 4)
    for dataset in opt["datasets"].values():
        for key, side in (("dataroot_gt", LQ_SIDE * scale), ("dataroot_lq", LQ_SIDE)):
            root = folder / dataset[key]
            root.mkdir(parents=True, exist_ok=True)
            names, picture = [f"image{index}.png" for index in range(IMAGES)], blank(side)
            if dataset["io_backend"]["type"] == "lmdb":
                (root / "meta_info.txt").write_text("".join(f"{name} ({side},{side},3) 1\n" for name in names))
                with lmdb.open(str(root)) as environment, environment.begin(write=True) as transaction:
                    for name in names:
                        transaction.put(name.removesuffix(".png").encode(), picture)
            else:
                for name in names:
                    (root / name).write_bytes(picture)
    checkpoint = (opt.get("path") or {}).get("pretrain_network_g")
    if checkpoint:
        (folder / checkpoint).parent.mkdir(parents=True, exist_ok=True)
        torch.save({"params": {"weight": torch.zeros(1)}}, folder / checkpoint)


def sound_options(name: str = "demo_HAN_x4") -> dict[str, Any]:
    """The options of a shipped file with a tiny network."""
    opt = read.read(name)
    opt["network_g"].update(num_feat=8, num_group=1, num_block=1, squeeze_factor=4)
    return opt


def changed(opt: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with options set by their path, such as train:total_iter; DELETE removes one."""
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


def complete(changes: dict[str, Any], name: str = "demo_HAN_x4") -> dict[str, Any]:
    """The normalised options of a shipped file with changes, made by `changed`, for a run in the current folder."""
    request = RunRequest(is_train="test" not in name, root=Path.cwd())
    return normalise(changed(sound_options(name), changes), request)[0]


def found(changes: dict[str, Any], name: str = "demo_HAN_x4") -> list[str]:
    """The problems of a shipped file with changes, made by `changed`, in the current folder."""
    request = RunRequest(is_train="test" not in name, root=Path.cwd())
    opt, problems = normalise(changed(sound_options(name), changes), request)
    problems += load.find_problems(opt)
    return [("warning: " if problem.warning else "") + str(problem) for problem in problems]
