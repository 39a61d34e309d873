"""`python -m han_arch`: the `basicsr` command, in the form that torchrun starts."""

import sys

from han_arch.cli import main

if __name__ == "__main__":
    sys.exit(main())
