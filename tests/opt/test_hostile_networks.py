"""A few bytes in an option file cannot keep a check busy for hours."""

from pathlib import Path

import pytest
from standins import found

from han_arch.zoo.size_limit import MOST_MODULES


@pytest.mark.usefixtures("demo_folder")
def test_endless_networks_are_refused() -> None:
    (problem,) = [text for text in found({"network_g:num_group": 10**9}) if text.startswith("network_g")]
    assert f"{MOST_MODULES:,}" in problem
    assert "smaller" in problem


def test_hostile_files_are_the_same_in_every_run(repository: Path) -> None:
    from random import Random

    from fuzzing.options import forced, mutated

    text = (repository / "options" / "demo_HAN_x4.yml").read_text("utf-8")
    for function in (mutated, forced):
        first, second = ([function(Random(seed), text) for seed in range(50)] for _ in range(2))
        assert first == second
