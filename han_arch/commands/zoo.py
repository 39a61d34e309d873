"""`basicsr zoo ...`: list, show, fetch, verify, convert, publish and reproduce weights."""

import argparse
import shlex
import sys
import textwrap
from pathlib import Path

from han_arch import compat
from han_arch.commands import subcommands
from han_arch.files import CACHE_VARIABLE, hash_file
from han_arch.opt import read
from han_arch.release import experiment, publish, reproduce, verify
from han_arch.speed.precision import PRECISIONS
from han_arch.zoo import entry as table
from han_arch.zoo import store
from han_arch.zoo.entry import FOUND, Entry
from han_arch.zoo.load import complete_options
from han_arch.zoo.read import read_header
from han_arch.zoo.recognise import read_checkpoint

EXAMPLES = """examples:
  basicsr zoo list
  basicsr zoo show han-authors-bix4
  basicsr zoo verify
  basicsr zoo COMMAND --help"""
UNKNOWN = "unknown"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and their arguments."""
    parser.epilog = EXAMPLES
    command = subcommands(parser)

    command(_list, "list all weights with sizes and results, and where each file is", "  basicsr zoo list")

    add = command(
        _show,
        "show all facts about a weight: origin, results, licence, terms",
        "  basicsr zoo show han-authors-bix4",
    )
    add("name", metavar="NAME", help="a name of `basicsr zoo list`")

    add = command(
        _fetch,
        "download a weight into the cache folder and verify it",
        f"""  basicsr zoo fetch han-s-x4
  {CACHE_VARIABLE}=/data/weights basicsr zoo fetch han-s-x4""",
        f"""Download weights into the cache folder and verify them. An interrupted transfer continues where it
stopped. A file that is present and right is not downloaded again: a cached weight needs no network.

The cache is han_arch in the user's cache folder; the variable {CACHE_VARIABLE} sets another.""",
    )
    add("names", metavar="NAME", nargs="+", help="names of `basicsr zoo list`")

    add = command(
        _verify,
        "check hashes, headers and networks; on request also the numbers",
        """  basicsr zoo verify
  basicsr zoo verify han-s-x4 --measure datasets
  basicsr zoo verify release/han-s-x4 --against han-s-x4

Exit status 0: everything is right; 1: something is wrong, and is named.""",
        """Check weights: the hash, the header, and that the network can be built and filled strictly; for an entry
also the table. A target is an entry's name, a file, or a release folder, of which every file's hash is checked.
Without a target, check every entry with its file in the package or the cache.""",
    )
    add("targets", metavar="NAME|FILE|FOLDER", nargs="*", help="what to check (default: every entry with a local file)")
    add("--measure", metavar="DATA", type=Path,
        help="folder with Set5/HR or Set5/GT_xSCALE: run the entry's network on it, and compare")  # fmt: skip
    add("--against", metavar="NAME", help="compare a release folder's results with this entry's: all sets, within "
        f"{verify.RETRAINED_DB} dB, since another training rounds differently")  # fmt: skip

    add = command(
        _convert,
        "convert a checkpoint of any known form into one with all construction options",
        """  basicsr zoo convert BIX4.pt han-authors-bix4.safetensors
  basicsr zoo convert experiments/HAN-S_x4_BSDS400/models/net_g_latest.pth weights/
  basicsr zoo convert RCAN_BIX2.pt RCAN_BIX2.pth

OUT ends in .safetensors or .pth; in a folder, the file's name is IN's name and its hash.""",
        """Convert a checkpoint to safetensors or BasicSR's form, with all construction options in it. The command
reads HAN's (this package's, its authors', super-image's) and RCAN's (its authors', BasicSR's), as .pth, .pt or
.safetensors; nothing in the file is executed. Options that the file lacks get the values of the authors' release, and
are printed; -opt sets the network's options instead.""",
    )
    add("source", metavar="IN", type=Path, help="the checkpoint")
    add("target", metavar="OUT", help="file or folder to write; never overwritten")
    add("-opt", metavar="FILE", help="option file of its training; the file must fit its network_g")
    add("--param_key", help="which weights of a file with several (default: params_ema, then params)")
    add("--half", action="store_true", help="store float16")

    add = command(
        _publish,
        "make a release folder from an experiment",
        """  basicsr zoo publish experiments/HAN-S_x4_BSDS400 -o release/han-s-x4 --data datasets
  basicsr zoo publish experiments/HAN-S_x4_BSDS400 -o trial \\
    --checkpoint experiments/HAN-S_x4_BSDS400/models/net_g_1000.pth

To ship it: copy the .safetensors into han_arch/zoo/weights/, add the printed JSON to the list in
han_arch/zoo/entries.json, then run `basicsr zoo verify` and scripts/make_model_zoo.py --add RELEASE.""",
        """Make a release folder from an experiment of `basicsr train`: averaged weights as NAME-HASH8.safetensors,
sidecar JSON, SHA256SUMS, option file, log and curves of the training, PSNR and SSIM of every image of Set5, Set14 and
B100 by the papers' protocol, SR images of Set5, a model card, an OpenModelDB entry, and the zoo's entry as JSON,
which is also printed. After an error no folder is left.""",
    )
    add("experiment", metavar="EXPERIMENT", type=Path, help="folder of the training")
    add("-o", "--out", metavar="RELEASE", type=Path, required=True, help="the folder to make")
    add("--data", metavar="FOLDER", type=Path, default=Path("datasets"),
        help="folder with Set5, Set14 and B100, each with HR/ or GT_xSCALE/ (default: datasets)")  # fmt: skip
    add("--name", help="of the entry (default: from the experiment's name, HAN-S_x4_BSDS400: han-s-x4)")
    add("--checkpoint", type=Path,
        help="default: the experiment's models/net_g_latest.pth, or net_g_best.pth if it kept the best")  # fmt: skip
    add("--url", help="address of the folder for downloads of the weights (default: shipped in the package)")
    add("--author", default="han-arch", help="user id at OpenModelDB (default: %(default)s)")
    add("--half", action="store_true", help="store float16: half the size; the stored weights are measured")

    add = command(
        _reproduce,
        "print, or run, the commands from data to a weight's numbers",
        """  basicsr zoo reproduce han-s-x4
  basicsr zoo reproduce han-s-x4 --photos bsds400 --benchmarks benchmarks --run

Exit status of --run: the status of the first command that fails, else 0.""",
        """Print or run the commands from photos to a weight's numbers. Run them in one folder. The training takes
hours; after an interruption the same command continues it. On another machine or with other versions the weights
differ in their last digits, and the numbers differ slightly.""",
    )
    add("name", metavar="NAME", help="an entry that was trained here")
    add("--photos", type=Path, default=Path("photos"), help="folder of the training photos (default: %(default)s)")
    add("--benchmarks", type=Path, default=Path("benchmarks"),
        help="folder with Set5/HR, Set14/HR and B100/HR (default: %(default)s)")  # fmt: skip
    add("-o", "--out", type=Path, help="release folder to make (default: release/NAME)")
    add("--run", action="store_true", help="run the commands instead of only printing them")


def run(args: argparse.Namespace) -> int:
    """Run the chosen subcommand and return its exit status."""
    return int(args.run_subcommand(args))


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _where(entry: Entry) -> str:
    path = store.present(entry)
    if path is None:
        return "to be fetched" if entry.url and entry.sha256 else "by hand"
    return "in the package" if path.parent == store.SHIPPED else "in the cache"


def _list(args: argparse.Namespace) -> int:
    rows = [("name", "task", "parameters", "trained on", "Set5 PSNR, dB", "file")]
    for entry in table.ENTRIES:
        set5 = next((expected for expected in entry.expected if expected.dataset == "Set5"), None)
        psnr = "" if set5 is None else f"{set5.psnr:.2f}{'*' if set5.status == FOUND else ''}"
        rows.append((entry.name, entry.task, f"{entry.parameters:,}", entry.training_set, psnr, _where(entry)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.write("* published by others, not measured here. `basicsr zoo show NAME` shows more.\n")
    return 0


def _show(args: argparse.Namespace) -> int:
    entry = table.find(args.name)
    facts = {
        "network": f"{entry.architecture}, "
        + ", ".join(f"{key} {value}" for key, value in entry.arguments.items() if key != "upscale"),
        "task": f"{entry.task}: scale {entry.scale}, degradation {entry.degradation}",
        "parameters": f"{entry.parameters:,}",
        "trained on": entry.training_set + (f", {entry.iterations:,} iterations" if entry.iterations else ""),
        "recipe": entry.recipe or UNKNOWN,
        "started from": UNKNOWN if entry.started_from is None else entry.started_from or "random weights",
        "origin": entry.origin,
        "file": f"{store.present(entry) or entry.file} ({_where(entry)})",
        "how to get it": entry.how_to_get,
        "address": entry.url or "",
        "sha256": entry.sha256 or f"{UNKNOWN}: nobody published it",
        "size": f"{entry.size:,} bytes" if entry.size else UNKNOWN,
        "licence": entry.licence,
        "data terms": entry.data_terms,
        "date, commit": f"{entry.date or UNKNOWN}, {entry.commit or UNKNOWN}",
    }
    lines = [entry.name]
    for key, value in facts.items():
        if value:
            lines += textwrap.wrap(value, 110, initial_indent=f"  {key:14}", subsequent_indent=" " * 16,
                                   break_long_words=False, break_on_hyphens=False)  # fmt: skip
    if not entry.expected:
        lines.append("  results       none: no published number was found, and nothing was measured here")
    for number, expected in enumerate(entry.expected):
        lines.append(
            f"  {'' if number else 'results':14}{expected.dataset:9}{expected.psnr:.2f} dB / {expected.ssim:.4f}, "
            f"{expected.status} ({expected.source}), {expected.variant}, within {expected.tolerance_db} dB"
        )
    if entry.expected:
        lines.append(f"  {'protocol':14}{entry.expected[0].protocol}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _fetch(args: argparse.Namespace) -> int:
    for entry in [table.find(name) for name in args.names]:
        sys.stdout.write(f"{store.obtain(entry, _say)}\n")
    return 0


def _verify(args: argparse.Namespace) -> int:
    targets = args.targets or [entry.name for entry in table.ENTRIES if store.present(entry)]
    if not targets:
        sys.stdout.write("no weight is in the package or the cache; name a file or a folder\n")
        return 0
    faults = 0
    for target in targets:
        checked = verify.check(target, args.measure, args.against)
        sys.stdout.write(f"{target}\n")
        sys.stdout.write("".join(f"  {line}\n" for line in checked.good))
        sys.stdout.write("".join(f"  WRONG: {line}\n" for line in checked.faults))
        faults += len(checked.faults)
    sys.stdout.write(f"{faults} wrong\n" if faults else "all is right\n")
    return 1 if faults else 0


def _convert(args: argparse.Namespace) -> int:
    checkpoint = read_checkpoint(args.source, args.param_key)
    given = read.read(args.opt).get("network_g") or {} if args.opt else None
    network_g, assumed = complete_options(checkpoint, given)
    provenance = read_header(args.source).get("provenance", {}) if args.source.suffix == ".safetensors" else {}
    origin = {"converted_from": args.source.name, "sha256": hash_file(args.source), "was": checkpoint.kind}
    weights = store.Weights(checkpoint.tensors, network_g, {**provenance, **origin})
    name = args.source.stem.removesuffix(f"-{store.hash_in_name(args.source)}")
    path = store.write_new(weights, args.target, name, PRECISIONS["fp16" if args.half else "fp32"])
    sys.stdout.write(f"{path}: {checkpoint.summary}, sha256 {hash_file(path)}\n")
    for note in checkpoint.notes:
        sys.stdout.write(f"  {note}\n")
    if assumed:
        values = ", ".join(f"{key} {network_g[key]}" for key in assumed)
        sys.stdout.write(f"  the file lacks these options, the released form is assumed: {values}\n")
    return 0


def _publish(args: argparse.Namespace) -> int:
    compat.require_basicsr()
    source = experiment.read(args.experiment, args.checkpoint)
    name = args.name or publish.default_name(source)
    request = publish.Request(source, name, args.data, args.url, args.author, args.half)
    entry, openmodeldb_faults = publish.publish(request, args.out)
    sys.stdout.write(table.to_json(entry) + "\n")
    for fault in openmodeldb_faults:
        sys.stderr.write(f"the OpenModelDB entry is not yet complete: {fault}\n")
    sys.stderr.write(f"written: {args.out}; to ship it, add the JSON above to the list in {table.TABLE.name}\n")
    return 0


def _reproduce(args: argparse.Namespace) -> int:
    entry = table.find(args.name)
    release = args.out or Path("release") / entry.name
    for step in reproduce.steps(entry, args.photos, args.benchmarks, release):
        sys.stdout.write(f"# {step.why}\n{shlex.join(['basicsr', *step.words])}\n")
        sys.stdout.flush()
        status = reproduce.run_apart(step) if args.run else 0
        if status:
            return status
    return 0
