"""The subcommands of `basicsr`, one module each, and what several of them share."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from han_arch.errors import printable
from han_arch.program import STANDARD_OUTPUT

MODEL_HELP = "checkpoint file (.pth, .safetensors), or name of a network in `basicsr zoo list`"


def say(*lines: object) -> None:
    """Print each argument as a line on standard output, without delay. Escape what is not printable."""
    try:
        sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))
        sys.stdout.flush()
    except OSError as error:
        error.filename = STANDARD_OUTPUT
        raise


def warn(line: str) -> None:
    """Print a line on standard error. Escape what is not printable."""
    sys.stderr.write(f"{printable(line)}\n")


def add_option_file(parser: argparse.ArgumentParser, overrides_help: str) -> None:
    """Add the flags `-opt` and `--force_yml`; `overrides_help` is the help text of `--force_yml`."""
    add = parser.add_argument
    add("-opt", required=True, metavar="FILE", help="option file: a path, or the name of a shipped option file")
    add("--force_yml", nargs="+", default=[], metavar="KEY:KEY=VALUE", help=overrides_help)


def subcommands(parser: argparse.ArgumentParser) -> Callable[..., Any]:
    """Return a function that adds one subcommand to a parser.

    In the parsed arguments, `run_subcommand` is the function that runs the chosen subcommand.
    """
    choices = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(run: Callable[[argparse.Namespace], int], summary: str, examples: str, description: str = "") -> Any:
        """Add a subcommand named after `run` (`prepare` for `_prepare`). Return its `add_argument`."""
        subparser = choices.add_parser(
            run.__name__.removeprefix("_"),
            help=summary,
            description=description or f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        subparser.set_defaults(run_subcommand=run)
        return subparser.add_argument

    return command
