"""`basicsr zoo publish`."""

import argparse
import sys
from pathlib import Path

from han_arch import compat
from han_arch.release import experiment, publish
from han_arch.zoo.entry import to_json

DESCRIPTION = """Make a release folder from an experiment of `basicsr train`: averaged weights as
NAME-HASH8.safetensors, sidecar JSON, SHA256SUMS, option file, log and curves of the training, PSNR and SSIM of every
image of Set5, Set14 and B100 by the papers' protocol, SR images of Set5, a model card, an OpenModelDB entry, and the
zoo's row, which is printed. All of it is made, or nothing."""
EXAMPLES = """examples:
  basicsr zoo publish experiments/HAN-S_x4_BSDS400 -o release/han-s-x4 --data datasets
  basicsr zoo publish experiments/HAN-S_x4_BSDS400 -o trial \\
    --checkpoint experiments/HAN-S_x4_BSDS400/models/net_g_1000.pth

To ship it: copy the .safetensors into han_arch/zoo/weights/, append the row to han_arch/zoo/entries.json, then run
`basicsr zoo verify` and scripts/make_model_zoo.py --add RELEASE."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("experiment", metavar="EXPERIMENT", type=Path, help="folder of the training")
    add("-o", "--out", metavar="RELEASE", type=Path, required=True, help="the folder to make")
    add("--data", metavar="FOLDER", type=Path, default=Path("datasets"),
        help="folder with Set5, Set14 and B100, each with HR/ or GT_xSCALE/ (default: datasets)")  # fmt: skip
    add("--name", help="of the entry (default: by the experiment's name, HAN-S_x4_BSDS400: han-s-x4)")
    add(
        "--checkpoint",
        type=Path,
        help="default: the experiment's models/net_g_latest.pth, or net_g_best.pth where it kept the best",
    )
    add("--url", help="address of the folder that the weights will be fetched from (default: shipped in the package)")
    add("--author", default="han-arch", help="user id at OpenModelDB (default: %(default)s)")
    add("--half", action="store_true", help="store float16: half the size; the numbers are those of the stored weights")


def run(args: argparse.Namespace) -> int:
    """Make the release; UserError when something is wrong, and no folder is left then."""
    compat.require_basicsr()
    source = experiment.read(args.experiment, args.checkpoint)
    request = publish.Request(
        source, args.name or publish.default_name(source), args.data, args.url, args.author, args.half
    )
    release = publish.publish(request, args.out)
    sys.stdout.write(to_json(release.entry) + "\n")
    for fault in release.openmodeldb_faults:
        sys.stderr.write(f"the OpenModelDB entry is not yet complete: {fault}\n")
    sys.stderr.write(f"written: {release.folder}; append the JSON above to han_arch/zoo/entries.json\n")
    return 0
