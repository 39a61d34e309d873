"""Plans depend only on sizes, fit the memory limit, and predict the measured memory."""

import subprocess
import sys
from pathlib import Path

import pytest
from known_engines import tiny_net

from han_arch import HAN
from han_arch.errors import UserError
from han_arch.inference.plan import MemoryCost, Plan, PlanRequest, choose, parse_size, size_text

SMALL = MemoryCost(num_feat=32, maps=11, scale=4, weights=2_000_000)
FULL_SIZE = MemoryCost(num_feat=64, maps=17, scale=2, weights=64_000_000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2G", 2 * 10**9),
        ("1.5gb", 1_500_000_000),
        ("800M", 8 * 10**8),
        ("512k", 512_000),
        ("7", 7),
        (" 3 T ", 3 * 10**12),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "G", "-1G", "0", "2 GiB", "1e9", "two"])
def test_texts_that_are_not_sizes(text: str) -> None:
    with pytest.raises(UserError, match="--memory must be a number"):
        parse_size(text)


def test_larger_images_are_run_in_smaller_parts() -> None:
    kinds = [choose(PlanRequest((side, side, 3), 1, SMALL, 2 * 10**9)).kind for side in (50, 400, 4000)]
    assert kinds == ["full", "strips", "tiles"]


@pytest.mark.parametrize("cost", [SMALL, FULL_SIZE])
@pytest.mark.parametrize("budget", [10**9, 2 * 10**9, 8 * 10**9])
@pytest.mark.parametrize("self_ensemble", [False, True])
def test_tiles_are_the_largest_that_fit(cost: MemoryCost, budget: int, self_ensemble: bool) -> None:
    request = PlanRequest((2400, 4000, 3), 1, cost, budget, self_ensemble, writing=0)
    plan = choose(request)
    assert plan.kind == "tiles"
    assert plan.peak <= budget
    side = plan.tile + 16 + 2 * plan.overlap
    assert cost.resting + 28_800_000 + cost.features(side, side) + 8 * cost.result(side, side) > 0.9 * budget
    assert plan == choose(request)


def test_too_small_a_budget_says_what_is_needed() -> None:
    with pytest.raises(UserError, match=r"6000x4000 pixels need --memory .*500 MB") as caught:
        choose(PlanRequest((4000, 6000, 3), 1, FULL_SIZE, 5 * 10**8))
    needed = str(caught.value).split("--memory ")[1].split(" ")[0]
    assert choose(PlanRequest((4000, 6000, 3), 1, FULL_SIZE, parse_size(needed))).tile >= 32


def test_writing_counts_too() -> None:
    with pytest.raises(UserError, match="100x100 pixels need"):
        choose(PlanRequest((100, 100, 3), 1, SMALL, 10**9, writing=20_000))


def test_halving_ends() -> None:
    plan, sides = Plan("strips"), []
    while (following := plan.halved(1000, 700)) is not None:
        plan = following
        sides.append(plan.tile)
    assert sides == [496, 240, 112, 48, 32]


@pytest.mark.parametrize("arguments", [("half",), ("tiles", 0, 8), ("tiles", 8, -1)])
def test_invalid_plans(arguments: tuple) -> None:
    with pytest.raises(ValueError, match="full, strips or tiles"):
        Plan(*arguments)


def test_words() -> None:
    assert str(Plan("tiles", 448, 32)) == "tiles-448-32"
    assert "3x2 tiles" in Plan("tiles", 448, 32).describe(600, 1000)
    assert "in strips" in Plan("strips").describe(600, 1000)
    assert size_text(1_960_000_000) == "2.0 GB"
    assert size_text(850_000_000) == "850 MB"


def test_cost_is_read_from_the_network() -> None:
    net = tiny_net(num_group=3)
    assert MemoryCost.of(net) == MemoryCost(8, 10, 2, 4 * sum(p.numel() for p in net.parameters()))


MEASURE = """
import sys, torch
from han_arch import HAN
from han_arch.inference.plan import MemoryCost
from han_arch.inference.strips import each_strip
from han_arch.speed.memory import added_at_peak
feat, group, scale, height, width = map(int, sys.argv[1:])
net = HAN(3, 3, feat, group, 1, 8, scale).to(memory_format=torch.channels_last)
with torch.inference_mode():
    net(torch.rand(1, 3, 16, 16))
    lq = torch.rand(1, 3, height, width)
    added = added_at_peak(lambda: [None for _ in each_strip(net, net.features(lq), MemoryCost.of(net).strip_pixels)])
print(added, MemoryCost.of(net).features(height, width))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize(
    "sizes", [(32, 4, 4, 300, 400), (64, 10, 2, 256, 256), (16, 2, 3, 500, 600), (64, 2, 8, 96, 96)]
)
def test_measured_memory_stays_below_the_formula(sizes: tuple[int, ...]) -> None:
    command = [sys.executable, "-c", MEASURE, *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    measured, expected = map(int, done.stdout.split())
    assert 0.3 * expected < measured <= expected


def test_full_size_network_fits_two_gigabytes() -> None:
    cost = MemoryCost.of(HAN(3, 3, 64, 10, 1, 16, 2))
    assert choose(PlanRequest((4000, 6000, 3), 1, cost, 2 * 10**9)).tile >= 256
