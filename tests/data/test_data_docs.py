"""The commands in docs/data.md and in the help texts exist and parse."""

import argparse
import re
import shlex

import pytest

from han_arch.cli import main
from han_arch.commands import data


def commands_in(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("basicsr data ")]
    return [re.split(r"\s{3,}", line)[0] for line in lines]


def parse(line: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    data.configure(parser)
    return parser.parse_args(shlex.split(line)[2:])


def test_documented_commands_parse(repository):
    lines = commands_in((repository / "docs" / "data.md").read_text("utf-8"))
    assert {shlex.split(line)[2] for line in lines} == set(data.SUBCOMMANDS)
    for line in lines:
        parse(line)


@pytest.mark.parametrize("name", data.SUBCOMMANDS)
def test_examples_in_the_help_parse(name, capsys):
    examples = commands_in(data.SUBCOMMANDS[name].examples)
    assert examples
    for line in examples:
        assert parse(line).data_command == name
    with pytest.raises(SystemExit) as done:
        main(["data", name, "--help"])
    assert done.value.code == 0
    assert examples[0] in capsys.readouterr().out


def test_documented_layout_is_what_prepare_makes(repository, prepared_template):
    text = (repository / "docs" / "data.md").read_text("utf-8")
    for path in prepared_template.iterdir():
        assert f"OUT/{path.name.replace('x2', 'x4')}" in text
