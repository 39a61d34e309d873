"""`basicsr test`."""

import argparse

from han_arch.commands.train import add_flags
from han_arch.training import start

EXAMPLES = """examples:
  basicsr test -opt options/test_HAN_x4.yml
  basicsr test -opt test_HAN_x4 --force_yml path:pretrain_network_g=net_g_latest.pth

Writes results/NAME under the current folder."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the test."""
    return start.run(args, is_train=False)
