"""The protocol's printed name, and what it refuses."""

from dataclasses import replace

import pytest

from han_arch.errors import UserError
from han_arch.evaluation.protocol import Protocol, from_options

PAPER = Protocol("BI", 4)


def test_default_is_the_papers_protocol_and_its_name_says_all() -> None:
    assert PAPER.name == "BIx4, GT mod-scale, Y, border 4, grey as_rgb, SR uint8, LR symmetric"
    assert from_options({}, 4) == PAPER
    assert PAPER.gt_multiple == 4


@pytest.mark.parametrize(
    "change",
    [
        {"crop_border": 0},
        {"channel": "RGB"},
        {"crop_gt": "GTmod12"},
        {"grey": "direct"},
        {"lr_border": "replicate"},
        {"scale": 3},
        {"degradation": "BD", "scale": 3},
    ],
)
def test_each_difference_gives_another_name(change: dict) -> None:
    assert replace(PAPER, **change).name != PAPER.name


def test_only_the_border_convention_of_lr_is_left_out_of_the_key() -> None:
    assert replace(PAPER, lr_border="not stated").key == PAPER.key
    assert replace(PAPER, grey="direct").key != PAPER.key


def test_options_name_the_degradation() -> None:
    protocol = from_options({"degradation": "BIx4_replicate", "crop_gt": "GTmod12", "channel": "RGB"}, 4)
    assert protocol == Protocol("BI", 4, channel="RGB", crop_gt="GTmod12", lr_border="replicate")
    assert protocol.gt_multiple == 12
    assert from_options({"degradation": "BDx3"}, 3).degradation == "BD"


@pytest.mark.parametrize(
    ("options", "scale", "message"),
    [
        ({"chanel": "Y"}, 4, r"did you mean channel\?"),
        ({"channel": "y"}, 4, "channel must be one of Y, RGB"),
        ({"degradation": "BIx2"}, 4, "BIx2 and the scale is 4"),
        ({"degradation": "BDx4"}, 4, "no degradation 'BDx4'.*there are .*BDx3"),
        ({"crop_border": -1}, 4, "whole number of pixels from 0; got -1"),
        ({"crop_border": 2.5}, 4, "whole number of pixels"),
        ({"crop_gt": "GTmod12"}, 8, "does not go with x8"),
        ({"grey": "grey"}, 4, "as_rgb, direct"),
    ],
)
def test_what_it_refuses(options: dict, scale: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_options(options, scale)
