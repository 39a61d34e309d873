"""The JSON schema accepts the same values as the table of options, and accepts every shipped file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standins import DELETE, changed, sound_options

from han_arch.cli import main
from han_arch.opt import read
from han_arch.opt import schema as json_schema
from han_arch.opt.kinds import Node, Section
from han_arch.opt.known import OPTIONS

jsonschema = pytest.importorskip("jsonschema")
SCHEMA = json.loads(json_schema.as_text())
SAMPLES = [None, True, False, -2, -1, 0, 1, 2, 10**6, 2**40, -0.5, 0.5, 1.5, "", "x", "auto", "a/b", "{}x", [], [0],
           [1], [0.5, 0.5], [1, 1], [2, 0.5], ["x"], [True], ["{}"], {}, "cpu", "none", "higher", "fp32", "skip",
           "disk", "nccl", "chop", "l1", "y", "HWC"]  # fmt: skip


def nodes(node: Node, schema: dict[str, Any], where: str = "") -> Iterator[tuple[str, Node, dict[str, Any]]]:
    """Yield the path of every option, with its row of the table and its part of the schema."""
    yield where, node, schema
    if isinstance(node, Section):
        part = next((one for one in schema["anyOf"] if one.get("type") == "object"), schema) if node.null else schema
        assert part.get("properties", {}).keys() == node.keys.keys()
        for key, child in node.keys.items():
            yield from nodes(child, part["properties"][key], f"{where}:{key}")
        if node.others is not None:
            others = part["additionalProperties"] or part["patternProperties"][f"^(?:{node.others_named})$"]
            yield from nodes(node.others, others, f"{where}:*")


def test_schema_takes_the_values_that_the_table_takes() -> None:
    answers: dict[str, set[bool]] = {}
    for where, node, schema in nodes(OPTIONS, SCHEMA):
        if isinstance(node, Section):
            continue
        validator = jsonschema.Draft7Validator(schema)
        for value in SAMPLES:
            assert validator.is_valid(value) == node.accepts(value), (where, value)
            answers.setdefault(where, set()).add(node.accepts(value))
    assert len(answers) > 100
    assert all(seen == {True, False} for seen in answers.values()), answers


@pytest.mark.parametrize("name", read.run_names())
def test_shipped_files_are_valid(name: str) -> None:
    opt = read.read(name)
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft7Validator(SCHEMA).validate(opt)


@pytest.mark.parametrize(
    ("path", "value"),
    [("trian", {}), ("train:total_itr", 3), ("datasets:train:gt_sise", 3), ("network_g:num_feet", 3), ("name", DELETE),
     ("val:metrics:psnr:crop_border", "4"), ("datasets:val_2", 3), ("logger:wandb:team", "x"), ("num_gpu", "all"),
     ("train:second_opt", 3)],
)  # fmt: skip
def test_mistakes_are_invalid(path: str, value: Any) -> None:
    validator = jsonschema.Draft7Validator(SCHEMA)
    assert validator.is_valid(sound_options())
    assert validator.is_valid(changed(sound_options(), {"train:second_opt": {"type": "L1Loss"}}))
    assert not validator.is_valid(changed(sound_options(), {path: value}))


def test_other_packages_may_read_more() -> None:
    foreign = {"model_type": "ForeignModel", "teacher": 1, "network_g": {"type": "ForeignNet", "depth": 2},
               "datasets:train:type": "ForeignDataset", "datasets:train:jitter": 1}  # fmt: skip
    assert jsonschema.Draft7Validator(SCHEMA).is_valid(changed(sound_options(), foreign))


def test_the_shipped_schema_and_the_printed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options", "schema"]) == 0
    printed = capsys.readouterr().out
    assert printed == (read.shipped_folder() / "schema.json").read_text("utf-8")
    assert json.loads(printed) == SCHEMA


def test_files_name_their_schema_where_they_are_and_where_they_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    schema = (read.shipped_folder() / "schema.json").resolve()
    for name in read.run_names():
        assert "\n# yaml-language-server: $schema=schema.json\n" in read.find(name).read_text("utf-8")
    assert main(["options", "copy", "train_HAN_x4", "mine.yml"]) == 0
    assert f"\n# yaml-language-server: $schema={schema.as_uri()}\n" in Path("mine.yml").read_text("utf-8")
