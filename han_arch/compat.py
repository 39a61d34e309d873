"""What BasicSR 1.4.2 needs on today's stack: the only file that touches another package's modules."""


def install_import_fallbacks() -> None:
    """Stand ready to answer for modules that were dropped."""
