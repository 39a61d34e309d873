"""The table of the model zoo: one entry for each weight file, read from entries.json."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from han_arch.errors import unknown
from han_arch.files import json_text

MEASURED, FOUND = "measured", "found"
TABLE = Path(__file__).with_name("entries.json")


@dataclass(frozen=True)
class Expected:
    """The expected mean PSNR (dB) and SSIM of a weight file on a test set.

    Attributes:
        tolerance_db: largest allowed difference in PSNR, in dB. For SSIM, the limit is `tolerance_db` / 20.
        protocol: name of the measurement protocol, `Protocol.name`.
        variant: inference variant: "full" for complete images, "chop" for overlapping quadrants of the images.
        status: "measured" if this package measured the numbers, "found" if a paper published them.
        source: command that measured the numbers, or paper that published them.
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
        """Return whether a measured PSNR (dB) or SSIM is outside the tolerance; nan is always outside."""
        return not (abs(psnr - self.psnr) <= self.tolerance_db and abs(ssim - self.ssim) <= self.tolerance_db / 20)


@dataclass(frozen=True)
class Entry:
    """One entry of the zoo's table: a weight file and the facts about it. None or "" means unknown, except where noted.

    Attributes:
        arguments: all arguments of the network.
        degradation: degradation of the LR images, "BI" or "BD".
        recipe: name of the option file of the training run. None if the package has no such file.
        iterations: number of training iterations, summed over all stages of the training.
        started_from: the weights at the start of the training, in words; "" for random weights.
        file: file name, NAME-HASH8.safetensors (HASH8: first 8 hex digits of the SHA-256). The authors' files keep
            their original names.
        url: http(s) address of the file. None if the package contains the file, or if users download it by hand.
        size: size of the file in bytes.
        parameters: number of trainable parameters.
        origin: who trained the weights, and the source of the file.
        how_to_get: instructions for the download by hand; "" if `basicsr zoo fetch` can download the file.
        date: publication date, yyyy-mm-dd.
        commit: commit of the code that published the weights.
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
        """Degradation and scale in one word, such as "BIx4"."""
        return f"{self.degradation}x{self.scale}"


def to_json(entry: Entry) -> str:
    """Return the entry as the text of a JSON object, in the format of entries.json."""
    return json_text(dataclasses.asdict(entry), indent=2)


def from_json(row: Mapping[str, Any]) -> Entry:
    """Build an entry from one decoded JSON object of entries.json.

    Raises:
        TypeError: a field is missing or unknown.
    """
    return Entry(**{**row, "expected": tuple(Expected(**result) for result in row["expected"])})


ENTRIES: tuple[Entry, ...] = tuple(map(from_json, json.loads(TABLE.read_text("utf-8"))))


def is_name(text: str) -> bool:
    """Return whether the zoo has an entry with this name."""
    return any(entry.name == text for entry in ENTRIES)


def find(name: str) -> Entry:
    """Return the zoo entry with this name.

    Raises:
        UserError: the zoo has no entry with this name; the message suggests the nearest name.
    """
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    raise unknown("zoo entry", name, [entry.name for entry in ENTRIES])
