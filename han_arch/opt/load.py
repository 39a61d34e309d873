"""Load an option file: read it, complete it and check it before the run builds anything."""

from pathlib import Path
from typing import Any

from han_arch.errors import UserError
from han_arch.opt import check, read, rules
from han_arch.opt.check import Problem
from han_arch.opt.normalise import RunRequest, normalise, without_added


def load(path: Path, request: RunRequest) -> tuple[dict[str, Any], list[str]]:
    """Return the complete and checked options of a run, and the texts of the warnings.

    This function replaces BasicSR's `parse_options`.

    Raises:
        UserError: the option file cannot be read or a `--force_yml` entry is wrong (the message describes only the
            first problem), or options are wrong (the message lists all problems that the checks found).
    """
    content = read.read(path)
    read.override(content, request.overrides, check.addable)
    opt, problems = normalise(content, request)
    problems += find_problems(opt)
    # `dict.fromkeys`, because two checks may find the same problem
    errors = list(dict.fromkeys(str(problem) for problem in problems if not problem.warning))
    if len(errors) == 1:
        raise UserError(f"{path}: {errors[0]}")
    if errors:
        raise UserError("\n  ".join([f"{path} has {len(errors)} problems:", *errors]))
    return opt, [str(problem) for problem in problems if problem.warning]


def find_problems(opt: dict[str, Any]) -> list[Problem]:
    """Check the options that `normalise` returned: single options, combinations, files, and the network."""
    problems = check.check_options(without_added(opt), is_train=opt["is_train"]) + check.check_files(opt)
    problems += rules.cross_check(opt, problems)
    if not any(problem.where.startswith("network_g") and not problem.warning for problem in problems):
        problems += check.try_network(opt.get("network_g"))
    return problems


def as_file(opt: dict[str, Any]) -> str:
    """Return the text of an option file that starts a run with these options."""
    return read.dump(without_added(opt))
