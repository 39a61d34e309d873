"""The `basicsr` command: its subcommands, its exit statuses, and its one-line error messages."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from han_arch import program
from han_arch.version import __version__

# Each subcommand is a module of han_arch.commands. configure(parser) adds its arguments; run(args) returns the exit
# status.
COMMANDS = {
    "train": "train a network from an option file",
    "test": "run a trained network on test sets and measure its image quality",
    "leaderboard": "compare the image quality of several networks and of bicubic upscaling",
    "options": "list or copy the option files that come with the package",
    "data": "download, prepare and check data sets",
    "upscale": "upscale photos, folders of photos, or an image from standard input",
    "zoo": "list, download, check, convert, publish and reproduce trained weights",
    "export": "export a network to another runtime, such as ONNX Runtime, and check its pixels",
    "inspect": "draw the attentions of a network, and the input pixels that an output patch depends on",
    "bench": "compare the speed and memory of HAN with other networks",
    "doctor": "print versions, devices and plugins, and check the installation for broken parts",
}

EXAMPLES = """examples:
  basicsr doctor
  basicsr options list
  basicsr train -opt options/train_HAN_x4.yml
  basicsr test -opt options/test_HAN_x4.yml
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` and return its exit status. If `argv` is None, use this process's arguments.

    Exit statuses: 0 for success, 1 for a failure that the command reports, 2 for a user's mistake or an error of the
    operating system, 130 for Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    return program.run(f"basicsr {chosen or ''}".strip(), lambda: _run(argv, chosen))


def _run(argv: list[str], chosen: str | None) -> int:
    parser = argparse.ArgumentParser(
        prog="basicsr",
        description="Train, test and compare super-resolution networks with BasicSR and its plugins.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"han_arch {__version__}")
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        description = f"{summary[0].upper()}{summary[1:]}."
        subparser = choices.add_parser(
            name, help=summary, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == chosen:  # import only this command, so that `basicsr --help` is fast
            command = import_module(f"han_arch.commands.{name}")
            command.configure(subparser)
    args = parser.parse_args(argv)
    return int(command.run(args))
