"""File names that are not UTF-8, or that have control characters, do not disturb a training, a test or their logs."""

import logging
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from han_arch.images.read import read_image

NAMES = ("K\udcf6ln", "a\nb", "\x1b[31mred", "写真")


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="this system allows only UTF-8 names")
@pytest.mark.parametrize("name", NAMES)
def test_an_output_has_the_name_of_its_input(basicsr: ModuleType, name: str, tmp_path: Path) -> None:
    """OpenCV's own function kills the process for the first of these names."""
    from han_arch.models.validation import write_image

    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    path = tmp_path / "new" / f"{name}.png"
    write_image(image, str(path))
    assert np.array_equal(read_image(path), image[..., ::-1])
    assert list(path.parent.iterdir()) == [path]


def test_the_log_holds_every_name(basicsr: ModuleType, tmp_path: Path) -> None:
    from han_arch.training.records import open_log

    path = tmp_path / "a.log"
    logger = open_log(logger_name="names", log_file=str(path))
    try:
        logger.warning("two\nlines: %s", "\t".join(NAMES))
    finally:
        for handler in logger.handlers:
            handler.close()
        logging.Logger.manager.loggerDict.pop("names")
    text = path.read_text("utf-8")
    assert "two\nlines: K\\udcf6ln\ta\nb\t\\x1b[31mred\t写真" in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the test needs /dev/full")
def test_a_log_that_cannot_be_written_is_an_error_of_the_system(basicsr: ModuleType) -> None:
    from han_arch.training.records import open_log

    with pytest.raises(OSError, match="No space left"):
        open_log(logger_name="full", log_file="/dev/full").info("text")
    logging.Logger.manager.loggerDict.pop("full")
