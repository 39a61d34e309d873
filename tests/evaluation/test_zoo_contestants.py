"""Tests of zoo entries as contestants of a leaderboard."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from han_arch.errors import UserError
from han_arch.evaluation.board import load
from han_arch.files import hash_file
from han_arch.opt import read
from han_arch.zoo import entry as table
from han_arch.zoo import store
from han_arch.zoo.load import load_model


@pytest.fixture
def options(board_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options of the small leaderboard. Its HAN is also the zoo entry tiny-x2, with its file in the package."""
    (tmp_path / "weights").mkdir()
    model = board_options["models"]["HAN"]
    state = load_model(model["checkpoint"]).state_dict()
    path = store.write_named(store.Weights(state, model["network_g"], {}), tmp_path / "weights", "tiny-x2")
    made = replace(table.ENTRIES[0], name="tiny-x2", file=path.name, url=None, sha256=hash_file(path), size=None)
    monkeypatch.setattr(table, "ENTRIES", (*table.ENTRIES, made))
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "weights")
    return board_options


def test_an_entry_has_three_spellings(options: dict[str, Any]) -> None:
    options["models"] |= {
        "mapping": {"zoo": "tiny-x2", "variants": ["full"]},
        "word": "tiny-x2",
        "tiny-x2": None,
    }
    checked = load(options)
    found = {contestant.name: contestant for contestant in checked.contestants}
    for name in ("mapping", "word", "tiny-x2"):
        assert found[name].parameters == found["HAN"].parameters
        assert found[name].weights_sha256 == table.find("tiny-x2").sha256
    assert found["mapping"].variants == ("full",)
    assert len(found["word"].variants) == 2


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tiny-x4", "'tiny-x4'; did you mean tiny-x2?"),
        (
            {"zoo": "tiny-x2", "param_key": "params"},
            "remove param_key",
        ),
        ({"zoo": "han-authors-bix2"}, "Mine: han-authors-bix2 cannot be downloaded automatically"),
        (None, "must be a mapping or the name of a zoo entry; got None"),
        (7, "got 7"),
    ],
)
def test_mistakes_are_reported_before_the_long_run(options: dict[str, Any], model: Any, message: str) -> None:
    options["models"]["Mine"] = model
    with pytest.raises(UserError) as caught:
        load(options)
    assert message in str(caught.value)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_zoos_boards_name_its_networks(scale: int) -> None:
    options = read.read(f"leaderboard_zoo_x{scale}")
    assert options["models"][f"HAN-S x{scale}"] == {"zoo": f"han-s-x{scale}"}
    assert list(options["datasets"]) == ["Set5", "Set14", "B100"]
