"""docs/leaderboard.md agrees with the code."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from han_arch.evaluation import board, contestants, score, sets
from han_arch.evaluation.protocol import Protocol
from han_arch.inference import variants
from han_arch.opt import read


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docs" / "leaderboard.md").read_text("utf-8")


def blocks(text: str) -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)]


def test_option_blocks_use_known_keys(text: str) -> None:
    found = blocks(text)
    assert len(found) == 4
    for block in found:
        assert block.keys() <= set(board.KEYS)
        for model in block.get("models", {}).values():
            assert model.keys() <= {*contestants.KEYS, "experiment"}
        for dataset in block.get("datasets", {}).values():
            assert dataset.keys() <= set(sets.KEYS)
        for crop in block.get("gallery", {}).get("crops", []):
            assert crop.keys() == set(board.CROP_KEYS)
        assert block.get("perceptual", score.optional_names()) == score.optional_names()


def test_the_protocols_name_is_the_printed_one(text: str) -> None:
    assert f"    {Protocol('BI', 4)}\n" in text
    for part in ("GTmod12", "RGB", "direct", "replicate", "as given"):
        assert f"`{part}`" in text


def test_variants_of_the_table_exist(text: str) -> None:
    table = text.split("## Variants")[1].split("##")[0]
    names = re.findall(r"`([^`]+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    assert len(names) == 6
    for name in names:
        variants.check(name)


def test_the_command_names_a_shipped_file(text: str) -> None:
    found = re.findall(r"^basicsr leaderboard -opt (\S+)", text, re.M)
    assert found
    assert all(read.find(name).is_file() for name in found)
