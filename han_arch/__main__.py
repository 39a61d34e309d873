"""Run the `basicsr` command by `python -m han_arch`, as torchrun does."""

import sys

from han_arch.cli import main

if __name__ == "__main__":
    sys.exit(main())
