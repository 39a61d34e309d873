"""The command `basicsr options`: list or copy the shipped option files, or print their JSON schema."""

import argparse

from han_arch.commands import say
from han_arch.opt import read

EXAMPLES = """examples:
  basicsr options list
  basicsr options copy train_HAN_x4.yml my_experiment.yml
  basicsr options copy all options/
  basicsr options schema > schema.json"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `basicsr options` to the parser."""
    parser.epilog = EXAMPLES
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="list the shipped option files with their titles")
    copy = actions.add_parser(
        "copy", help="copy one or all shipped option files, so that you can edit them; never overwrites a file"
    )
    copy.add_argument("name", help="name of a shipped option file, or the word all")
    copy.add_argument("target", nargs="?", default=".", help="file or folder to copy to (default: the current folder)")
    actions.add_parser("schema", help="print the JSON schema that editors use to complete and check option files")


def run(args: argparse.Namespace) -> int:
    """List or copy option files, or print their JSON schema."""
    if args.action == "schema":
        from han_arch.opt import schema

        say(*schema.as_text().splitlines())
    elif args.action == "list":
        say(*(f"{name:24} {title}" for name, title in read.shipped_titles().items()))
    else:
        say(*read.copy_shipped(args.name, args.target))
    return 0
