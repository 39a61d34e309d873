"""`basicsr zoo ...`: the zoo's weights and the releases they come from; each subcommand has its own file."""

import argparse
from importlib import import_module

SUBCOMMANDS = {
    "list": ("han_arch.commands.zoo_list", "names, sizes and results of all weights, and which are here"),
    "show": ("han_arch.commands.zoo_show", "all that is known of a weight: origin, results, licence, terms"),
    "fetch": ("han_arch.commands.zoo_fetch", "download a weight into the cache folder and verify it"),
    "verify": ("han_arch.commands.zoo_verify", "check hashes, headers and networks; on request also the numbers"),
    "convert": ("han_arch.commands.zoo_convert", "turn a checkpoint of any known form into one that tells all"),
    "publish": ("han_arch.commands.zoo_publish", "make a release folder from an experiment"),
    "reproduce": ("han_arch.commands.zoo_reproduce", "print, or run, the commands from data to a weight's numbers"),
}

EXAMPLES = """examples:
  basicsr zoo list
  basicsr zoo show han-authors-bix4
  basicsr zoo verify
  basicsr zoo COMMAND --help"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and their arguments."""
    parser.epilog = EXAMPLES
    choices = parser.add_subparsers(dest="zoo_command", metavar="COMMAND", required=True)
    for name, (module, summary) in SUBCOMMANDS.items():
        subparser = choices.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        import_module(module).configure(subparser)


def run(args: argparse.Namespace) -> int:
    """Run the chosen subcommand and return its exit status."""
    return import_module(SUBCOMMANDS[args.zoo_command][0]).run(args)
