"""The `basicsr` command: the table of subcommands, and the exit status and one-line message of a user's mistake."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from han_arch.errors import UserError
from han_arch.version import __version__

# Each command is a module of han_arch.commands with configure(parser), which adds its arguments, and run(args), which
# returns the exit status.
COMMANDS = {
    "train": "train a network from an option file",
    "test": "run a trained network over test sets and measure it",
    "leaderboard": "measure models side by side by one protocol",
    "options": "list or copy the option files that come with the package",
    "data": "make, pack and check data sets",
    "upscale": "super-resolve photos, folders of them, or standard input",
    "zoo": "list, fetch, check, convert, publish and reproduce weights",
    "export": "write a network for other runtimes, such as ONNX Runtime, and check it",
    "inspect": "draw the attentions and the pixels that a patch depends on",
    "bench": "measure HAN's speed and memory against its peers",
    "doctor": "show versions, devices, plugins, and the faults of this installation",
}

EXAMPLES = """examples:
  basicsr doctor
  basicsr options list
  basicsr train -opt options/train_HAN_x4.yml
  basicsr test -opt options/test_HAN_x4.yml
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 for success, 1 for a command's negative result, 2 for a user's mistake."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser, subparsers = _build_parser()
    # Import only the chosen command, so that `basicsr --help` is fast.
    chosen = next((word for word in argv if not word.startswith("-")), None)
    if chosen in COMMANDS:
        module = import_module(f"han_arch.commands.{chosen}")
        module.configure(subparsers[chosen])
    args = parser.parse_args(argv)
    try:
        return module.run(args)
    except (UserError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        sys.stderr.write(f"basicsr {chosen}: error: {error}\n")
        return 2
    except BrokenPipeError:  # the reader closed the pipe, as in `basicsr options list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains when it exits
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"basicsr {chosen}: interrupted\n")
        return 130


def _build_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        prog="basicsr",
        description="Train, test and compare super-resolution networks with BasicSR and its plugins.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"han_arch {__version__}")
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    subparsers = {
        name: choices.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, summary in COMMANDS.items()
    }
    return parser, subparsers
