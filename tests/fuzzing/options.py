"""Hostile option files: runs, leaderboards and `data bench`, with damage to their bytes, keys and values."""

import functools
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from fuzzing import trial
from fuzzing.damage import damaged

# YAML texts that take the place of a value.
VALUES = (
    "[]", "{}", "[1, [2]]", "{a: 1}", "[{}]", "[~]", "[.nan]", "[1, 2, 3]", "[true]", "[[[]]]", "{a: {b: {c: {}}}}",
    "{1: 2}", "{~: 1}", "{[1]: 2}", "{2024-01-01: 1}", "{type: HAN}", "{type: [HAN]}", "{type: ~}", "{'*': 1}",
    "2024-01-01", "2024-13-45", "2024-01-01 00:00:00Z", "~", ".nan", ".inf", "-.inf", "1e999", "-1", "0", "1", "-0.0",
    "1e-320", "99999999999999999999", "1e18", "1000000000", "0.5", "7", "9" * 5000, "0x1F", "017", "1:30", "1_000",
    "''", "'  '", "x", "x" * 5000, '"\\0"', '"a\\0b"', "写真", '"\\ud83d"', '"a\\nb"', '"\\e[31mred"', '"\\u202eb"',
    "true", "no", "y", "'%s %d {0.__class__} {}'", "'{'", "'}'", "{}: 1", "- 1", "../..", "/", "/dev/null", "~root/x",
    "'~/x'", "'.'", "'~nobody-of-this-name/x'", "gt", "option.yml", "tiny.pth", "gt/a.png", "'[^'", "a*", "***",
    "!!binary aGFsbG8=", "!!binary '?'", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!timestamp x",
    "!!float x", "!!float le-3", "!!float ''", "!!int x", "!!int ''", "!!bool maybe", "!!null x", "!!str 3", "!!map x",
    "!!seq x", "!!python/object:os.system {}", "!!python/name:os.system ''", "!own x", "&x [*x]", "*nothing", "*scale",
    "&a [&b [&c [1, 1], *c], *b]", "<<: 1", "{<<: {a: 1}}", "=", "'='", "@", "`", "%", "!", "&", "*", "|", ">", "?",
    "HAN", "Adam", "L1Loss", "auto", "full", "Bicubic", "BIx4", "PSNR", "calculate_psnr", "PairedImageDataset",
)  # fmt: skip
_ENCODINGS = ("latin-1", "gbk", "utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp037", "shift-jis")
COMMANDS = {
    "train": ("train", "--check"),
    "test": ("test", "--check"),
    "leaderboard": ("leaderboard",),
    "bench": ("data", "bench", "--seconds", "0.01", "--no-network"),
    "convert": ("zoo", "convert", "tiny.pth", "converted.pth"),
}


def hostile(rng: random.Random, folder: Path) -> Path:
    """Write a hostile option file; its name begins with the command that reads it."""
    command = rng.choice(("train", "train", "test", "leaderboard", "leaderboard", "bench", "convert"))
    path = folder / f"{command}.yml"
    path.write_bytes(mutated(rng, rng.choice(_texts()[command])))
    return path


def check(path: Path, out: Path) -> str:
    """Run the command with the file, in a folder that has the files of the valid option files."""
    rng = random.Random(path.read_bytes())
    command = path.stem.partition("-")[0]
    shutil.copytree(_valid(), out, dirs_exist_ok=True)
    words = [*COMMANDS[command], "-opt", path.resolve()]
    if command in ("train", "test", "leaderboard") and rng.randrange(3) == 0:
        words += ["--force_yml", *(forced(rng, rng.choice(_texts()[command])) for _ in range(rng.choice((1, 1, 3))))]
    before = os.getcwd()
    os.chdir(out)
    try:
        with trial.nothing_lost(path.parent, out, written=command in ("leaderboard", "convert")):
            status, output = trial.run(*words)
    finally:
        os.chdir(before)
    if len(output) > 100_000:
        raise trial.Finding(f"a message of {len(output)} letters: {output[:500]}")
    return f"{command}, status {status}"


def mutated(rng: random.Random, text: str) -> bytes:
    """Return an option file with damage to its bytes, its lines, or its keys and values."""
    way = rng.randrange(10)
    if way == 0:
        return damaged(rng, text.encode())
    if way == 1:
        note = f"# {rng.choice(('Größe', '数据集', 'é'))}\n"
        return (note + text).encode(rng.choice(_ENCODINGS), errors="replace")
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        text = (_with_other_line if way == 2 else _with_other_value)(rng, text)
    return text.encode("utf-8", "surrogatepass")


def forced(rng: random.Random, text: str) -> str:
    """Return an entry for `--force_yml`, whose key is mostly one of the file."""
    places = [":".join(map(str, place)) for place in _places(_load(text) or {})] or ["name"]
    entry = f"{rng.choice(places)}={rng.choice(VALUES)}"
    return rng.choice((entry, entry, entry, entry.replace(":", "::"), entry.partition("=")[0], entry[:-1]))


def _with_other_line(rng: random.Random, text: str) -> str:
    lines = text.splitlines()
    at = rng.randrange(len(lines)) if lines else 0
    key, colon, _ = lines[at].partition(":") if lines else ("", "", "")
    other = f"{key}{colon} {rng.choice(VALUES)}"
    ways: tuple[Callable[[], list[str]], ...] = (
        lambda: [*lines[:at], other, *lines[at + 1 :]],
        lambda: [*lines[:at], other, *lines[at:]],
        lambda: [*lines[:at], *lines[at : at + 1], *lines[at:]],
        lambda: [
            *lines[:at],
            f"{rng.choice((' ', '  ', chr(9), '- ', '? '))}{''.join(lines[at : at + 1])}",
            *lines[at + 1 :],
        ],
        lambda: [*lines[:at], *lines[at + 1 :]],
        lambda: rng.sample(lines, len(lines)),
    )
    return "\n".join(rng.choice(ways)()) + "\n"


def _with_other_value(rng: random.Random, text: str) -> str:
    options = _load(text)
    places = list(_places(options))
    if not places:
        return f"a: {rng.choice(VALUES)}\n"
    *parents, key = rng.choice(places)
    section = functools.reduce(lambda node, one: node[one], parents, options)
    way = rng.randrange(8)
    if way == 0:
        del section[key]
    elif way == 1:
        section[key] = functools.reduce(lambda node, one: node[one], rng.choice(places), options)
    elif way == 2 and isinstance(section, dict):
        section[rng.choice(("@value@", f"{key}s", str(key)[:-1], str(key).upper()))] = section.pop(key)
    elif way == 3 and isinstance(section, dict):
        section[rng.choice(("@value@", "own", f"{key}_2"))] = section[key]
    else:
        section[key] = "@value@"
    written = yaml.safe_dump(options, sort_keys=False, allow_unicode=True, default_flow_style=rng.choice((None, False)))
    return written.replace("'@value@'", rng.choice(VALUES))


def _load(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError):
        return None


def _places(node: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if len(way) > 8:
        return
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*way, key)
        yield from _places(value, (*way, key))


@functools.cache
def _texts() -> dict[str, list[str]]:
    """The valid option files of each command: the shipped ones, and small ones for the files of `_valid`."""
    from han_arch.opt import read

    tiny = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_group": 1, "num_block": 1, "squeeze_factor": 4}
    demo, test = read.read("demo_HAN_x4"), read.read("demo_test_HAN_x4")
    for options in (demo, test):
        options["network_g"] |= {**tiny, "upscale": 2}
        options["scale"] = 2
        for dataset in options["datasets"].values():
            dataset |= {"dataroot_gt": "gt", "dataroot_lq": "lq", "io_backend": {"type": "disk"}}
    demo["datasets"]["train"] |= {"gt_size": 16, "num_worker_per_gpu": 0, "batch_size_per_gpu": 1}
    test["path"]["pretrain_network_g"] = "tiny.pth"
    board = {
        "name": "board", "scale": 2, "num_gpu": 0,
        "protocol": {"degradation": "BIx2", "channel": "Y", "crop_border": 2, "crop_gt": "mod-scale", "grey": "as_rgb"},
        "datasets": {"set": {"dataroot_gt": "gt", "dataroot_lq": "lq"}},
        "variants": ["full"], "baseline": "Bicubic", "models": {"Bicubic": {"type": "Bicubic"}, "tiny": {
            "checkpoint": "tiny.pth", "network_g": {"type": "HAN", **tiny, "upscale": 2}, "param_key": "params"}},
        "cost": {"lr_size": 16, "repeat": 1},
        "gallery": {"count": 1, "size": 16, "crops": [{"set": "set", "image": "a", "left": 0, "top": 0}]},
        "perceptual": [],
    }  # fmt: skip
    shipped = {name: path.read_text("utf-8") for name, path in read.shipped_files().items()}
    train = [yaml.safe_dump(demo, sort_keys=False), shipped["demo_HAN_x4.yml"], shipped["train_HAN-S_x4.yml"]]
    return {
        "train": [train[0], *train],
        "test": [yaml.safe_dump(test, sort_keys=False), shipped["test_HAN_x4.yml"]],
        "leaderboard": [yaml.safe_dump(board, sort_keys=False)] * 2 + [shipped["leaderboard_demo_x4.yml"]],
        "bench": train,
        "convert": train,
    }


@functools.cache
def _valid() -> Path:
    """Make the files that the valid option files name, once in each process."""
    import numpy as np
    import torch
    from PIL import Image

    from han_arch import HAN

    folder = Path(tempfile.mkdtemp(prefix="fuzz_options_"))
    rng = np.random.default_rng(0)
    for name, side in (("gt", 32), ("lq", 16)):
        (folder / name).mkdir()
        for image in ("a", "b"):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{image}.png")
    net = HAN(3, 3, num_feat=8, num_group=1, num_block=1, squeeze_factor=4, upscale=2)
    torch.save({"params": net.state_dict()}, folder / "tiny.pth")
    return folder
