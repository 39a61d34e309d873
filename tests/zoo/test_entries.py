"""Tests of each entry in the zoo's table: network, parameters, file, recipe, published numbers, results on Set5."""

import inspect
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_origin

import pytest
import torch

from han_arch import HAN
from han_arch.evaluation import comparison
from han_arch.evaluation.protocol import Protocol
from han_arch.files import CACHE_VARIABLE
from han_arch.release import reproduce, verify
from han_arch.zoo import store
from han_arch.zoo.entry import ENTRIES, FOUND, MEASURED, TABLE, Entry, Expected, from_json, to_json

EACH = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
TRAINED_HERE = pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.recipe], ids=lambda e: e.name)
# Entries with their file in the package, which needs no download.
SHIPPED = pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if entry.sha256 and entry.url is None], ids=lambda entry: entry.name
)


@EACH
def test_the_network_is_rebuilt_and_counted(entry: Entry) -> None:
    assert entry.architecture == "HAN"
    assert entry.arguments.keys() == inspect.signature(HAN).parameters.keys()
    with torch.device("meta"):
        net = HAN(**entry.arguments)
    assert sum(parameter.numel() for parameter in net.parameters()) == entry.parameters
    assert net.upscale == entry.scale


@EACH
def test_fields_agree_with_each_other(entry: Entry) -> None:
    assert entry.name == entry.name.lower()
    assert entry.licence
    assert entry.data_terms
    assert entry.origin
    if entry.sha256 is None:
        assert entry.how_to_get
        assert entry.url is None
        assert not any(expected.status == MEASURED for expected in entry.expected)
    else:
        assert store.hash_in_name(Path(entry.file)) == entry.sha256[:8]
        assert entry.file.startswith(f"{entry.name}-")
        assert entry.url is not None or (store.SHIPPED / entry.file).is_file(), (
            "the file is not in the package and has no address"
        )
        assert entry.expected
    for expected in entry.expected:
        assert 0 < expected.tolerance_db <= 0.05
        protocol = Protocol(entry.degradation, entry.scale)
        if expected.status == FOUND:
            protocol = replace(protocol, lr_border="not stated")
        assert expected.protocol == protocol.name


@EACH
def test_found_numbers_equal_the_published_ones(entry: Entry) -> None:
    protocol = Protocol(entry.degradation, entry.scale)
    if entry.recipe is not None:
        assert all(expected.status == MEASURED for expected in entry.expected)
        return
    found = {
        row.dataset: (row.score.psnr, row.score.ssim, row.source)
        for row in comparison.load_published()
        if row.method == "HAN" and row.status == "found" and row.score.protocol.key == protocol.key
    }
    assert {e.dataset: (e.psnr, e.ssim, e.source) for e in entry.expected} == found


@TRAINED_HERE
def test_the_recipe_makes_this_network(entry: Entry) -> None:
    trainings = reproduce.stages_of(entry.recipe)
    options = trainings[-1].options
    network_g = {key: value for key, value in options["network_g"].items() if key != "type"}
    assert dict(entry.arguments) == network_g
    assert 0 < entry.iterations <= sum(stage.iterations for stage in trainings)
    assert options["datasets"]["train"]["name"] == entry.training_set


@SHIPPED
def test_the_file_agrees_with_the_table(entry: Entry) -> None:
    found = verify.check_entry(entry, store.SHIPPED / entry.file)
    assert not found.faults
    assert len(found.good) == 2


@SHIPPED
@pytest.mark.usefixtures("basicsr")
def test_set5_gives_the_expected_numbers(entry: Entry, shared_data: Path) -> None:
    means = verify.measure_entry(entry, store.SHIPPED / entry.file, shared_data / "benchmarks")
    found = verify.compare(entry, means)
    assert not found.faults
    assert len(found.good) == 1


@SHIPPED
def test_it_loads_and_runs_offline_and_without_basicsr(entry: Entry, tmp_path: Path) -> None:
    """In the subprocess, connections fail and BasicSR cannot be imported."""
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise OSError('no internet access')\n"
        "socket.socket.connect = socket.create_connection = refuse\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'basicsr': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import torch, han_arch\n"
        f"out = han_arch.load_model({entry.name!r})(torch.rand(1, 3, 8, 9))\n"
        "print(tuple(out.shape), bool(out.isfinite().all()))\n"
    )
    environment = {**os.environ, CACHE_VARIABLE: str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=200)
    assert done.stdout == f"(1, 3, {8 * entry.scale}, {9 * entry.scale}) True\n", done.stderr


def test_names_and_files_are_unique() -> None:
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    known = {entry.file for entry in ENTRIES} | {"README.md"}
    assert {path.name for path in store.SHIPPED.iterdir()} <= known, "a file in zoo/weights has no entry"
    assert {f"han-authors-{name}" for name in ("bix2", "bix3", "bix4", "bix8", "bdx3")} <= {e.name for e in ENTRIES}


IN_JSON = {Mapping: dict, tuple: list}


def assert_has_the_fields_of(row: dict[str, Any], kind: type) -> None:
    assert list(row) == [field.name for field in fields(kind)], "fields are missing, unknown or in another order"
    for field in fields(kind):
        value, wanted = row[field.name], get_origin(field.type)
        wanted = IN_JSON.get(wanted, field.type)  # the JSON type of a mapping or tuple; else the annotated type
        assert isinstance(value, wanted), f"{row.get('name')}: {field.name} is {value!r}"
        assert not isinstance(value, bool)
        assert value is None or not isinstance(value, float) or math.isfinite(value)


def test_every_row_of_the_table_has_every_field_with_its_kind() -> None:
    rows = json.loads(TABLE.read_text("utf-8"))
    assert [row["name"] for row in rows] == [entry.name for entry in ENTRIES]
    for row in rows:
        assert_has_the_fields_of(row, Entry)
        for expected in row["expected"]:
            assert_has_the_fields_of(expected, Expected)
            assert expected["status"] in (FOUND, MEASURED)


@EACH
def test_an_entry_survives_json(entry: Entry) -> None:
    assert from_json(json.loads(to_json(entry))) == entry


def test_a_row_with_a_missing_or_unknown_field_is_refused() -> None:
    row = json.loads(to_json(ENTRIES[0]))
    with pytest.raises(TypeError, match="licence"):
        from_json({key: value for key, value in row.items() if key != "licence"})
    with pytest.raises(TypeError, match="colour"):
        from_json({**row, "colour": "red"})


def test_tolerances() -> None:
    expected = Expected("Set5", 31.5, 0.8867, 0.01, "", "full", MEASURED, "")
    assert not expected.differs(31.509, 0.8871)
    assert expected.differs(31.511, 0.8867)
    assert expected.differs(31.5, 0.8873)
    assert expected.differs(float("nan"), 0.8867)
