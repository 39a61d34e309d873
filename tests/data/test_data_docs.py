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


NAMES = ("prepare", "download", "verify", "bench")


def subcommand_of(line: str) -> str:
    """The subcommand that parses a documented command line."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    data.configure(parser)
    words = shlex.split(line)[2:]
    assert parser.parse_args(words).run_subcommand
    return words[0]


def test_documented_commands_parse(repository):
    lines = commands_in((repository / "docs" / "data.md").read_text("utf-8"))
    assert {subcommand_of(line) for line in lines} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_examples_in_the_help_parse(name, capsys):
    with pytest.raises(SystemExit) as done:
        main(["data", name, "--help"])
    assert done.value.code == 0
    examples = commands_in(capsys.readouterr().out)
    assert examples
    assert {subcommand_of(line) for line in examples} == {name}


def test_documented_layout_is_what_prepare_makes(repository, prepared_template):
    text = (repository / "docs" / "data.md").read_text("utf-8")
    for path in prepared_template.iterdir():
        assert f"OUT/{path.name.replace('x2', 'x4')}" in text
