"""Make `python -m han_arch` run the `basicsr` command. torchrun starts the command in this form."""

import sys

from han_arch.cli import main

if __name__ == "__main__":
    sys.exit(main())
