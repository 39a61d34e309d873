"""The subcommands of `basicsr`. Each module defines the arguments of one command and runs the command."""

import argparse
from collections.abc import Callable
from typing import Any


def subcommands(parser: argparse.ArgumentParser) -> Callable[..., Any]:
    """Return a function that adds one subcommand to a parser.

    After parsing, the attribute `run_subcommand` of the arguments is the function that runs the chosen subcommand.
    """
    choices = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(run: Callable[[argparse.Namespace], int], summary: str, examples: str, description: str = "") -> Any:
        """Add the subcommand `prepare` for a function `_prepare`; return the function that adds its arguments."""
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
