"""The command `basicsr test`."""

import argparse

from han_arch.commands.train import add_flags
from han_arch.training import start

EXAMPLES = """examples:
  basicsr test -opt options/test_HAN_x4.yml
  basicsr test -opt test_HAN_x4 --force_yml path:pretrain_network_g=net_g_latest.pth

The test writes to results/NAME in the current folder, where NAME is the option `name`."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `basicsr test` to the parser."""
    parser.epilog = EXAMPLES
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the test and return the exit status."""
    return start.run(args, is_train=False)
