"""The zoo's table: one entry for each weight file, read from entries.json."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from han_arch.errors import unknown

MEASURED, FOUND = "measured", "found"
TABLE = Path(__file__).with_name("entries.json")


@dataclass(frozen=True)
class Expected:
    """The result of a weight on a test set.

    Attributes:
        dataset: name of the set.
        psnr: mean, in dB.
        ssim: mean.
        tolerance_db: largest PSNR difference on another machine; for SSIM a twentieth of the number.
        protocol: the printed name of the protocol (see evaluation/protocol.py).
        variant: how the network ran: "full" or "chop" (see inference/variants.py).
        status: "measured" here, or "found" in the source.
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
        arguments: all construction arguments that affect the output.
        scale: HR side / LR side.
        degradation: kind of the degradation that made LR, "BI" or "BD".
        training_set: name of the set.
        recipe: the option file for `basicsr train`; None where there is none.
        iterations: of the training, earlier stages of the same network included; None if unknown.
        started_from: the weights that the training started from; "" for random weights, None if unknown.
        file: the file's name, ending in `-` and the first 8 hex digits of its hash; the authors' own name for theirs.
        url: http(s) address; None for a file in the package, or one to download by hand.
        sha256: 64 hex digits; None if unknown.
        size: bytes; None if unknown.
        parameters: number of trainable weights.
        licence: of the weights.
        data_terms: terms of the training data's owners.
        expected: results on test sets.
        origin: who trained it, and where the file comes from.
        how_to_get: the steps by hand, for a file that no program can download; otherwise "".
        date: of publication, yyyy-mm-dd; "" if unknown.
        commit: of the code that published it; "" if unknown.
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
    def task(self) -> str:
        """Degradation and scale in one word, such as BIx4."""
        return f"{self.degradation}x{self.scale}"


def to_json(entry: Entry) -> str:
    """Return the entry as an object of entries.json."""
    return json.dumps(dataclasses.asdict(entry), indent=2, ensure_ascii=False)


def from_json(row: Mapping[str, Any]) -> Entry:
    """Return the entry of a decoded object of entries.json.

    Raises:
        TypeError: a field is missing or unknown.
    """
    expected = tuple(Expected(**result) for result in row["expected"])
    return Entry(**{**row, "expected": expected})


ENTRIES: tuple[Entry, ...] = tuple(map(from_json, json.loads(TABLE.read_text("utf-8"))))


def is_name(text: str) -> bool:
    """Whether an entry has this name."""
    return any(entry.name == text for entry in ENTRIES)


def find(name: str) -> Entry:
    """Return the entry with a name.

    Raises:
        UserError: there is none; the message has the nearest name.
    """
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    raise unknown("zoo weight", name, [entry.name for entry in ENTRIES])
