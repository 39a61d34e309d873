"""`basicsr zoo ...`: list, show, fetch, verify, convert, publish and reproduce weight files."""

import argparse
import shlex
import textwrap
from pathlib import Path

from han_arch import compat
from han_arch.commands import say, subcommands, warn
from han_arch.errors import UserError
from han_arch.files import CACHE_VARIABLE, hash_file
from han_arch.opt import read
from han_arch.release import experiment, publish, reproduce, verify
from han_arch.zoo import entry as table
from han_arch.zoo import store
from han_arch.zoo.entry import FOUND, Entry
from han_arch.zoo.load import complete_options
from han_arch.zoo.recognise import read_checkpoint

EXAMPLES = """examples:
  basicsr zoo list
  basicsr zoo show han-authors-bix4
  basicsr zoo verify
  basicsr zoo COMMAND --help"""
UNKNOWN = "unknown"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `basicsr zoo` and their arguments to the parser."""
    parser.epilog = EXAMPLES
    command = subcommands(parser)

    # fmt: off
    command(_list, "list all weight files, with number of parameters, PSNR on Set5 and location", "  basicsr zoo list")

    add = command(
        _show, "print all facts about a weight file: origin, results, licence, terms of use",
        "  basicsr zoo show han-authors-bix4")
    add("name", metavar="NAME", help="name of a zoo entry (`basicsr zoo list` prints all names)")

    add = command(
        _fetch, "download weight files into the cache folder and check their hashes",
        f"""  basicsr zoo fetch han-s-x4
  {CACHE_VARIABLE}=/data/weights basicsr zoo fetch han-s-x4""",
        f"""Download weight files into the cache folder and check their hashes. An interrupted download continues where
it stopped. If the package or the cache folder contains the right file, the command works without internet access.

The cache folder is han_arch in the user's folder for caches, for example ~/.cache/han_arch on Linux. The environment
variable {CACHE_VARIABLE} sets another folder.""")
    add("names", metavar="NAME", nargs="+", help="names of zoo entries (`basicsr zoo list` prints all names)")

    add = command(
        _verify, "check weight files: hash, header and network; with --measure also PSNR and SSIM",
        """  basicsr zoo verify
  basicsr zoo verify han-s-x4 --measure datasets
  basicsr zoo verify release/han-s-x4 --against han-s-x4

Exit status: 0 if all checks pass, 1 if a check fails (the output then contains WRONG).""",
        """Check the hash and the header of weight files, and that the weights fit the network exactly. A target is
the name of a zoo entry, a file or a release folder. The command also compares the file of a zoo entry with the
zoo's table. In a release folder, it checks the hashes of all files. Without a target, the command checks all zoo
entries that have a file in the package or the cache folder.""")
    add("targets", metavar="NAME|FILE|FOLDER", nargs="*",
        help="what to check (default: all zoo entries that have a file on this machine)")
    add("--measure", metavar="DATA", type=Path,
        help="also measure a zoo entry on Set5, and compare PSNR and SSIM with the zoo's table; DATA is a folder with "
        "Set5/HR or Set5/GT_xSCALE")
    add("--against", metavar="NAME",
        help="also compare the results in a release folder with those of the zoo entry NAME; PSNR may differ by up "
        f"to {verify.RETRAINED_DB} dB, because training again with the same options gives slightly different weights")

    add = command(
        _convert, "convert a checkpoint into a file that contains all options of the network",
        """  basicsr zoo convert BIX4.pt han-authors-bix4.safetensors
  basicsr zoo convert experiments/HAN-S_x4_BSDS400/models/net_g_latest.pth weights/
  basicsr zoo convert RCAN_BIX2.pt RCAN_BIX2.pth

OUT is a .safetensors file, a .pth file or a folder. If OUT is a folder, the file name is IN's name and a hash.""",
        """Convert a checkpoint to a .safetensors file, or to a .pth file in BasicSR's format. The new file contains all
options of the network. The command reads checkpoints of HAN (from this package, its authors or super-image) and RCAN
(from its authors or BasicSR), as .pth, .pt or .safetensors files. Code in a file is never executed. If an option is
missing in the checkpoint, the command uses the value of the authors' release and prints it. With -opt, the command
reads these options from an option file instead.""")
    add("source", metavar="IN", type=Path, help="checkpoint to convert")
    add("target", metavar="OUT", help="file to write, or folder for the file; an existing file is never overwritten")
    add("-opt", metavar="FILE", help="option file of IN's training run; its network_g must describe the network in IN")
    add("--param_key",
        help="key of the weights in IN; IN must have it (default: averaged weights such as params_ema, else params, "
        "state_dict or a similar key)")
    add("--half", action="store_true", help="store the weights as float16")

    add = command(
        _publish, "make a release folder from the experiment folder of a training run",
        """  basicsr zoo publish experiments/HAN-S_x4_BSDS400 -o release/han-s-x4 --data datasets
  basicsr zoo publish experiments/HAN-S_x4_BSDS400 -o trial \\
    --checkpoint experiments/HAN-S_x4_BSDS400/models/net_g_1000.pth

To add the release to the zoo, run `python scripts/make_model_zoo.py --add RELEASE` in the repository.""",
        """Make a release folder from an experiment folder of `basicsr train`. The release folder contains:

  - the averaged weights (NAME-HASH8.safetensors) and all facts about them (NAME-HASH8.json)
  - the option file, the log and the curves of the training run
  - PSNR and SSIM of every image of Set5, Set14 and B100 by the papers' protocol, and the SR images of Set5
  - a model card, an OpenModelDB entry, the zoo entry as JSON (also printed), and SHA256SUMS

If the command fails, it does not leave a release folder.""")
    add("experiment", metavar="EXPERIMENT", type=Path, help="experiment folder of the training run")
    add("-o", "--out", metavar="RELEASE", type=Path, required=True, help="release folder to make")
    add("--data", metavar="FOLDER", type=Path, default="datasets",
        help="folder with Set5, Set14 and B100; each contains HR/ or GT_xSCALE/ (default: datasets)")
    add("--name", help="name of the zoo entry (default: from EXPERIMENT's name, e.g. han-s-x4 for HAN-S_x4_BSDS400)")
    add("--checkpoint", type=Path,
        help="checkpoint to release (default: EXPERIMENT/models/net_g_latest.pth, or net_g_best.pth if the training "
        "run used the option keep_best)")
    add("--url",
        help="URL of the folder from which users download the weight file (default: none; the package has the file)")
    add("--author", default="han-arch", help="user ID of the author at OpenModelDB (default: %(default)s)")
    add("--half", action="store_true",
        help="store the weights as float16 (half the file size), and measure PSNR and SSIM with these weights")

    add = command(
        _reproduce, "print or run the commands that repeat the training and the measurement of a weight file",
        """  basicsr zoo reproduce han-s-x4
  basicsr zoo reproduce han-s-x4 --photos bsds400 --benchmarks benchmarks --run

Exit status with --run: the status of the first command that fails; 0 if no command fails.""",
        """Print or run all commands that repeat the training and the measurement of a weight file, from the photos to
PSNR and SSIM. Run all commands in the same folder. The training takes hours. If it is interrupted, run the same command
again to resume it. On another machine, or with another version of PyTorch, the new weights differ in their last digits.
Therefore PSNR and SSIM differ slightly too.""")
    add("name", metavar="NAME", help="name of a zoo entry that was trained with this package")
    add("--photos", type=Path, default="photos", help="folder with the training photos (default: %(default)s)")
    add("--benchmarks", type=Path, default="benchmarks",
        help="folder with Set5/HR, Set14/HR and B100/HR (default: %(default)s)")
    add("-o", "--out", type=Path, help="release folder to make (default: release/NAME)")
    add("--run", action="store_true", help="run the commands instead of only printing them")


def run(args: argparse.Namespace) -> int:
    """Run the chosen subcommand of `basicsr zoo` and return its exit status."""
    return int(args.run_subcommand(args))


def _where(entry: Entry) -> str:
    path = store.present(entry)
    if path is None:
        return "not downloaded" if entry.url and entry.sha256 else "download by hand"
    return "in the package" if path.parent == store.SHIPPED else "in the cache"


def _list(args: argparse.Namespace) -> int:
    rows = [("name", "task", "parameters", "trained on", "Set5 PSNR, dB", "file")]
    for entry in table.ENTRIES:
        set5 = next((expected for expected in entry.expected if expected.dataset == "Set5"), None)
        psnr = "" if set5 is None else f"{set5.psnr:.2f}{'*' if set5.status == FOUND else ''}"
        rows.append((entry.name, entry.task, f"{entry.parameters:,}", entry.training_set, psnr, _where(entry)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    say("* This PSNR is from a paper and was not measured with this package. `basicsr zoo show NAME` names the paper.")
    return 0


def _show(args: argparse.Namespace) -> int:
    entry = table.find(args.name)
    options = [f"{key} {value}" for key, value in entry.arguments.items() if key != "upscale"]
    results = [
        f"{one.dataset:9}{one.psnr:.2f} dB / {one.ssim:.4f}, {one.status} ({one.source}), variant {one.variant}, "
        f"tolerance {one.tolerance_db} dB"
        for one in entry.expected
    ]
    facts = {
        "network": ", ".join([entry.architecture, *options]),
        "task": f"{entry.task}: scale {entry.scale}, degradation {entry.degradation}",
        "parameters": f"{entry.parameters:,}",
        "trained on": entry.training_set + (f", {entry.iterations:,} iterations" if entry.iterations else ""),
        "recipe": entry.recipe or UNKNOWN,
        "started from": UNKNOWN if entry.started_from is None else entry.started_from or "random weights",
        "origin": entry.origin,
        "file": f"{store.present(entry) or entry.file} ({_where(entry)})",
        "how to get it": entry.how_to_get,
        "address": entry.url or "",
        "sha256": entry.sha256 or f"{UNKNOWN}: it was not published",
        "size": f"{entry.size:,} bytes" if entry.size else UNKNOWN,
        "licence": entry.licence,
        "data terms": entry.data_terms,
        "date, commit": f"{entry.date or UNKNOWN}, {entry.commit or UNKNOWN}",
        "results": "\n".join(results) or f"{UNKNOWN}: no published results were found, and this package measured none",
        "protocol": entry.expected[0].protocol if entry.expected else "",
    }
    say(entry.name)
    for name, text in facts.items():
        for number, line in enumerate(text.splitlines()):  # an empty text has no line
            first = f"  {'' if number else name:14}"
            say(*textwrap.wrap(line, 110, initial_indent=first, subsequent_indent=" " * 16,
                               break_long_words=False, break_on_hyphens=False))  # fmt: skip
    return 0


def _fetch(args: argparse.Namespace) -> int:
    for entry in [table.find(name) for name in args.names]:
        say(store.obtain(entry, warn))
    return 0


def _verify(args: argparse.Namespace) -> int:
    targets = args.targets or [entry.name for entry in table.ENTRIES if store.present(entry)]
    if not targets:
        say("no weight file is in the package or the cache folder; pass a file or a folder")
        return 0
    faults = 0
    for target in targets:
        checked = verify.check(target, args.measure, args.against)
        say(target, *(f"  {line}" for line in checked.good), *(f"  WRONG: {line}" for line in checked.faults))
        faults += len(checked.faults)
    say(f"{faults} problems found" if faults else "all checks passed")
    return 1 if faults else 0


def _convert(args: argparse.Namespace) -> int:
    checkpoint = read_checkpoint(args.source, args.param_key)
    given = read.read(args.opt).get("network_g") or {} if args.opt else None
    if not isinstance(given, dict | None):
        raise UserError(f"network_g in {args.opt} must be a mapping of options; got {given!r:.100}")
    network_g, assumed = complete_options(checkpoint, given)
    path = store.write_converted(checkpoint, network_g, args.target, args.half)
    say(f"{path}: {checkpoint.summary}, sha256 {hash_file(path)}", *(f"  {note}" for note in checkpoint.notes))
    if assumed:
        values = ", ".join(f"{key} {network_g[key]}" for key in assumed)
        say(f"  {args.source} lacks some options; they are assumed to have the authors' values: {values}")
    return 0


def _publish(args: argparse.Namespace) -> int:
    compat.require_basicsr()
    source = experiment.read(args.experiment, args.checkpoint)
    name = args.name or publish.default_name(source)
    request = publish.Request(source, name, args.data, args.url, args.author, args.half)
    entry, openmodeldb_faults = publish.publish(request, args.out)
    say(*table.to_json(entry).splitlines())
    for fault in openmodeldb_faults:
        warn(f"the OpenModelDB entry is not yet complete: {fault}")
    warn(f"wrote {args.out}; to add it to the zoo, run scripts/make_model_zoo.py --add {args.out} in the repository")
    return 0


def _reproduce(args: argparse.Namespace) -> int:
    entry = table.find(args.name)
    release = args.out or Path("release") / entry.name
    for step in reproduce.steps(entry, args.photos, args.benchmarks, release):
        say(f"# {step.why}", shlex.join(["basicsr", *step.words]))
        status = reproduce.run_apart(step) if args.run else 0
        if status:
            return status
    return 0
