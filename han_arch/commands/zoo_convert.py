"""`basicsr zoo convert`."""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from han_arch.errors import UserError
from han_arch.files import clear_refusal, replacing
from han_arch.opt import read, shipped
from han_arch.zoo import weight_file
from han_arch.zoo.construction import ASSUMED
from han_arch.zoo.load import build, check_rcan, load_strict
from han_arch.zoo.recognise import HAN_DEFAULTS, RCAN_AUTHORS, RCAN_BASICSR, Checkpoint, read_checkpoint

DESCRIPTION = """Turn a checkpoint into safetensors or BasicSR's form, with all construction arguments in it. Taken are
HAN's (this package's, its authors', super-image's) and RCAN's (its authors', BasicSR's), as .pth, .pt or .safetensors;
nothing in the file is executed. What the file does not tell is assumed as the authors released it, and said; -opt
gives the network's options instead."""
EXAMPLES = """examples:
  basicsr zoo convert BIX4.pt han-authors-bix4.safetensors
  basicsr zoo convert experiments/HAN-S_x4_BSDS400/models/net_g_latest.pth weights/
  basicsr zoo convert RCAN_BIX2.pt RCAN_BIX2.pth

OUT ends in .safetensors or .pth; into a folder, the file is called by IN's name and its hash."""

# What RCAN has of HAN's arguments.
RCAN_ARGUMENTS = (
    "num_in_ch", "num_out_ch", "num_feat", "num_group", "num_block", "squeeze_factor", "upscale", "res_scale",
    "img_range", "rgb_mean",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("source", metavar="IN", type=Path, help="the checkpoint")
    add("target", metavar="OUT", help="file or folder to write; never overwritten")
    add("-opt", metavar="FILE", help="option file of its training, whose network_g it must fit")
    add("--param_key", help="which weights of a file with several (default: params_ema, then params)")
    add("--half", action="store_true", help="store float16")


def run(args: argparse.Namespace) -> int:
    """Convert, and say what came out; UserError when it cannot be done, and nothing is written then."""
    checkpoint = read_checkpoint(args.source, args.param_key)
    kind = "RCAN" if checkpoint.kind in (RCAN_AUTHORS, RCAN_BASICSR) else "HAN"
    # What an option file leaves out has the network's default, which is the released form too.
    told = _network_of(args.opt, kind) if args.opt else {}
    assumed = () if args.opt else checkpoint.assumed
    arguments = HAN_DEFAULTS | ASSUMED | checkpoint.arguments | told
    build(arguments, str(args.source))  # before its parts are looked at
    arguments["rgb_mean"] = weight_file.normalisation(arguments)["rgb_mean"]
    if kind == "RCAN":
        check_rcan(checkpoint)
        arguments = {key: arguments[key] for key in RCAN_ARGUMENTS}
        assumed = tuple(key for key in assumed if key in arguments)
    else:
        load_strict(build(arguments, str(args.source)), checkpoint, arguments)
    network_g = {"type": kind, **arguments}
    path = _write(checkpoint, network_g, args)
    sys.stdout.write(f"{path}: {checkpoint.summary}, sha256 {weight_file.sha256(path)}\n")
    for note in checkpoint.notes:
        sys.stdout.write(f"  {note}\n")
    if assumed:
        values = ", ".join(f"{key} {network_g[key]}" for key in assumed)
        sys.stdout.write(f"  the file does not tell, and the released form is assumed: {values}\n")
    return 0


def _network_of(option_file: str, wanted: str) -> dict[str, Any]:
    network_g = read.read(shipped.find(option_file)).get("network_g") or {}
    if network_g.get("type") != wanted:
        raise UserError(f"{option_file} describes a network of type {network_g.get('type')}; the file is a {wanted}")
    return {key: value for key, value in network_g.items() if key != "type"}


def _write(checkpoint: Checkpoint, network_g: dict[str, Any], args: argparse.Namespace) -> Path:
    target = Path(args.target)
    into_folder = target.is_dir() or args.target.endswith("/")
    if not into_folder and target.suffix not in (".safetensors", ".pth"):
        raise UserError(f"OUT must end in .safetensors or .pth, or be a folder (with / behind a new one); got {target}")
    if not into_folder and target.exists():
        raise UserError(f"{target} exists; name another file, or remove it first")
    provenance = {
        **_told_of(args.source),
        "converted_from": args.source.name,
        "sha256": weight_file.sha256(args.source),
        "was": checkpoint.kind,
    }
    if target.suffix == ".pth" and not into_folder:
        dtype = torch.float16 if args.half else torch.float32
        tensors = {key: value.to(dtype) for key, value in checkpoint.tensors.items()}
        target.parent.mkdir(parents=True, exist_ok=True)
        with clear_refusal(target, "make room or choose another folder"), replacing(target) as file:
            torch.save({"network_g": network_g, "params": tensors, "provenance": provenance}, file)
        return target
    data = weight_file.as_bytes(checkpoint.tensors, network_g, provenance, half=args.half)
    if into_folder:
        target.mkdir(parents=True, exist_ok=True)
        named = weight_file.hash_in_name(args.source)
        return weight_file.write(data, target, args.source.stem.removesuffix(f"-{named}"))
    target.parent.mkdir(parents=True, exist_ok=True)
    weight_file.write_atomically(data, target)
    return target


def _told_of(source: Path) -> dict[str, Any]:
    """What a file of the zoo tells of itself: its licence and the terms of its data go where its weights go."""
    if source.suffix != ".safetensors":
        return {}
    return dict(weight_file.read_header(source).get("provenance", {}))
