"""Paired differences: the interval has its nominal coverage, and few images settle nothing."""

import math

import numpy as np
import pytest

from han_arch.evaluation import statistics


def test_sign_test_by_hand() -> None:
    """Nine of ten: 2 * (10 + 1) / 2^10."""
    result = statistics.compare([1.0] * 9 + [-1.0], [0.0] * 10)
    assert (result.wins, result.losses) == (9, 1)
    assert result.p_value == pytest.approx(22 / 1024)
    assert result.difference == pytest.approx(0.8)


def test_equal_images_are_neither_won_nor_lost() -> None:
    result = statistics.compare([3.0, 4.0], [3.0, 4.0])
    assert (result.wins, result.losses, result.p_value) == (0, 0, 1.0)
    assert result.verdict == "not settled"


def test_five_images_settle_nothing_and_a_hundred_do() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 100)
    few = statistics.compare(list(0.02 + abs(noise[:5])), [0.0] * 5)
    assert few.low > 0
    assert few.verdict == "not settled"
    many = statistics.compare(list(30.2 + noise), [30.0] * 100)
    assert many.verdict == "ahead"
    assert statistics.compare([30.0] * 100, list(30.2 + noise)).verdict == "behind"


def test_interval_has_about_its_nominal_coverage() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(60):
        result = statistics.compare(list(generator.normal(0.1, 0.3, 40)), [0.0] * 40)
        hits += result.low <= 0.1 <= result.high
    assert 51 <= hits <= 60


def test_images_with_inf_or_nan_are_skipped() -> None:
    result = statistics.compare([math.inf, 31.0, math.nan, 33.0], [math.inf, 30.0, 30.0, 30.0])
    assert (result.images, result.difference) == (2, 2.0)
    alone = statistics.compare([1.0], [0.0])
    assert math.isnan(alone.low)
    assert alone.verdict == "not settled"


def test_same_numbers_give_the_same_interval() -> None:
    values = list(np.random.default_rng(2).normal(size=20))
    assert statistics.compare(values, [0.0] * 20) == statistics.compare(values, [0.0] * 20)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        statistics.compare([1.0, 2.0], [1.0])
