"""What the zoo knows of one weight file."""

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

MEASURED, FOUND = "measured", "found"
_WIDTH = 120  # of a line of code


@dataclass(frozen=True)
class Expected:
    """What a weight gives on a test set.

    Attributes:
        dataset: name of the set.
        psnr: mean, in dB.
        ssim: mean.
        tolerance_db: how far another machine's PSNR may be from it; of SSIM a twentieth of the number.
        protocol: the printed name of the protocol (see evaluation/protocol.py).
        variant: how the network was run: "full" or "chop" (see inference/variants.py).
        status: "measured" here, or "found" in the place that source names.
        source: the command, or the paper.
    """

    dataset: str
    psnr: float
    ssim: float
    tolerance_db: float
    protocol: str
    variant: str
    status: str
    source: str

    def differs(self, psnr: float, ssim: float) -> bool:
        """Whether a measurement is outside the tolerance; nan is."""
        return not (abs(psnr - self.psnr) <= self.tolerance_db and abs(ssim - self.ssim) <= self.tolerance_db / 20)


@dataclass(frozen=True)
class Entry:
    """One weight.

    Attributes:
        name: what `load_model` takes.
        architecture: the network's class.
        arguments: all of its construction arguments that decide the output.
        scale: HR side / LR side.
        degradation: kind of the degradation that made LR, "BI" or "BD".
        training_set: name of the set.
        recipe: the option file that `basicsr train` takes; None where there is none.
        iterations: of the training; None where nobody said.
        started_from: the weights that the training started from; "" for none, None where nobody said.
        file: its name, ending in `-` and the first 8 hex digits of its hash; the authors' own name where they keep it.
        url: http(s) address; None for a file that comes with the package, or that is to be fetched by hand.
        sha256: 64 hex digits; None where nobody published it.
        size: bytes; None where unknown.
        parameters: weights that training changes.
        licence: of the weights.
        data_terms: what the training data's owners ask.
        expected: what it gives on test sets.
        origin: who trained it, and where the file comes from.
        how_to_get: the steps by hand, for a file that cannot be fetched; "" otherwise.
        date: of publication, yyyy-mm-dd; "" where nobody said.
        commit: of the code that published it; "" where nobody said.
    """

    name: str
    architecture: str
    arguments: Mapping[str, Any]
    scale: int
    degradation: str
    training_set: str
    recipe: str | None
    iterations: int | None
    started_from: str | None
    file: str
    url: str | None
    sha256: str | None
    size: int | None
    parameters: int
    licence: str
    data_terms: str
    expected: tuple[Expected, ...]
    origin: str
    how_to_get: str
    date: str
    commit: str

    @property
    def shrunk_by(self) -> str:
        """What made LR images of HR photos, in words."""
        return {"BI": "MATLAB's bicubic", "BD": "a Gaussian blur and decimation"}[self.degradation]

    @property
    def task(self) -> str:
        """Degradation and scale in one word, such as BIx4."""
        return f"{self.degradation}x{self.scale}"


def row(entry: Entry) -> str:
    """The entry as it stands in entries.py: in the fourth column, formatted as the linter wants it, a comma behind."""
    return f"    {_call(entry, 1)},"


def _call(value: "Entry | Expected", depth: int) -> str:
    lines = [_line(field.name + "=", getattr(value, field.name), depth + 1) for field in fields(value)]
    return f"{type(value).__name__}(\n" + "".join(lines) + "    " * depth + ")"


def _line(before: str, value: Any, depth: int) -> str:
    pad = "    " * depth
    line = f"{pad}{before}{_literal(value, depth)},\n"
    if not isinstance(value, str) or len(line) <= _WIDTH + 1:
        return line
    # The linter joins the parts of what would fit into one line of its own.
    whole = len(pad) + 4 + len(_literal(value, 0)) <= _WIDTH
    width = _WIDTH - len(pad) - 10
    parts = [value] if whole else textwrap.wrap(value, width, drop_whitespace=False, break_on_hyphens=False)
    inner = "".join(f"{pad}    {_literal(part, 0)}\n" for part in parts)
    return f"{pad}{before}(\n{inner}{pad}),\n"


def _literal(value: Any, depth: int) -> str:
    pad = "    " * (depth + 1)
    if isinstance(value, str):
        # The linter wants double quotes, unless they would have to be escaped.
        return repr(value) if '"' in value else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        inner = "".join(_line(f"{_literal(key, 0)}: ", item, depth + 1) for key, item in value.items())
        return "{\n" + inner + "    " * depth + "}"
    if isinstance(value, tuple) and value and isinstance(value[0], Expected):
        return "(\n" + "".join(f"{pad}{_call(item, depth + 1)},\n" for item in value) + "    " * depth + ")"
    if isinstance(value, list | tuple):
        opening, closing = "[]" if isinstance(value, list) else "()"
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        return opening + ", ".join(_literal(item, depth) for item in value) + comma + closing
    return repr(value)
