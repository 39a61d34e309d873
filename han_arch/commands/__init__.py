"""The subcommands of `basicsr`, one file each: arguments in, a call, an exit status out."""

import argparse
from collections.abc import Callable
from typing import Any


def subcommands(parser: argparse.ArgumentParser) -> Callable[..., Any]:
    """Return a function that adds one subcommand to a parser.

    The parsed arguments hold the chosen subcommand's function as `run_subcommand`.
    """
    choices = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(run: Callable[[argparse.Namespace], int], summary: str, examples: str, description: str = "") -> Any:
        """Add the subcommand of a function _NAME; return the function that adds its arguments."""
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
