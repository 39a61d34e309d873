"""`basicsr zoo fetch`."""

import argparse
import sys

from han_arch.zoo import entry as entries
from han_arch.zoo import store

DESCRIPTION = f"""Download weights into the cache folder and verify them. A transfer that broke off is gone on with;
what is there and right is not downloaded again, so that a cached weight needs no network.

The cache is han_arch in the user's cache folder; the variable {store.CACHE_VARIABLE} names another."""
EXAMPLES = f"""examples:
  basicsr zoo fetch han-s-x4
  {store.CACHE_VARIABLE}=/data/weights basicsr zoo fetch han-s-x4"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("names", metavar="NAME", nargs="+", help="names of `basicsr zoo list`")


def run(args: argparse.Namespace) -> int:
    """Fetch what is not here and print where each file is."""
    wanted = [entries.find(name) for name in args.names]
    for entry in wanted:
        sys.stdout.write(f"{store.obtain(entry, _say)}\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
