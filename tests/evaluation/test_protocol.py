"""Tests of the protocol: its printed name, and the values that it rejects."""

from dataclasses import replace

import pytest

from han_arch.errors import UserError
from han_arch.evaluation.protocol import Protocol, from_options

PAPER = Protocol("BI", 4)


def test_the_default_is_the_papers_protocol() -> None:
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


def test_the_key_has_all_but_the_border_convention_of_lr() -> None:
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
        ({"channel": "y"}, 4, "channel 'y'.*RGB, Y"),
        ({"degradation": "BIx2"}, 4, "BIx2, but the scale is 4"),
        ({"degradation": "BDx4"}, 4, "degradation 'BDx4'.*BDx3"),
        ({"crop_border": -1}, 4, "crop_border.*>= 0.*got -1"),
        ({"crop_border": 2.5}, 4, "crop_border.*whole number.*2.5"),
        ({"crop_gt": "GTmod12"}, 8, "GTmod12.*x8"),
        ({"grey": "grey"}, 4, "grey 'grey'.*as_rgb, direct"),
    ],
)
def test_wrong_options_are_rejected(options: dict, scale: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_options(options, scale)
