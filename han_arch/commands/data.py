"""`basicsr data ...`: the command line of the data room; each subcommand has its own file."""

import argparse
from importlib import import_module

SUBCOMMANDS = {
    "prepare": ("han_arch.commands.data_prepare", "make LR images, sub-images and LMDBs from a folder of HR images"),
    "download": ("han_arch.commands.data_download", "fetch DIV2K and the benchmark sets from their official addresses"),
    "verify": ("han_arch.commands.data_verify", "check folders and LMDBs and tell how the LR images were made"),
    "bench": ("han_arch.commands.data_bench", "measure loading against the network, and imresize"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and their arguments."""
    choices = parser.add_subparsers(dest="data_command", metavar="COMMAND", required=True)
    for name, (module, summary) in SUBCOMMANDS.items():
        subparser = choices.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        import_module(module).configure(subparser)


def run(args: argparse.Namespace) -> int:
    """Run the chosen subcommand and return its exit status."""
    return import_module(SUBCOMMANDS[args.data_command][0]).run(args)
