"""Results side by side: one picture of crops and one table, with PSNR and SSIM by the papers' protocol.

PSNR in dB and SSIM are those of `scoring.measure` by the papers' protocol.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from han_arch.evaluation import score as scoring
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.score import Score
from han_arch.images.detail import most_detailed_window


@dataclass(frozen=True)
class Photo:
    """One image in several versions.

    Attributes:
        name: what to call it.
        hr: the original, (h, w, 3) uint8 RGB.
        versions: method -> its image of the same size and type, in the order to show.
    """

    name: str
    hr: np.ndarray
    versions: Mapping[str, np.ndarray]


def measure(image: np.ndarray, hr: np.ndarray, scale: int) -> Score:
    """Score an image against HR; both (h, w, 3) uint8 RGB.

    Raises:
        ValueError: their sizes differ.
    """
    return scoring.measure(image, hr, Protocol("BI", scale))


def mean_scores(scores: Sequence[Mapping[str, Score]]) -> dict[str, Score]:
    """Mean score of each method over images."""
    return {
        method: scoring.mean_score({str(i): row[method] for i, row in enumerate(scores)}).mean for method in scores[0]
    }


def table(names: Sequence[str], scores: Sequence[Mapping[str, Score]]) -> str:
    """A Markdown table, a row for each image and one for the mean, a column for each method; the protocol below."""
    rows = [*zip(names, scores, strict=True), ("mean", mean_scores(scores))]
    corner = "PSNR / SSIM on Y"
    width = max(len(corner), *(len(name) for name, _ in rows))
    methods = list(scores[0])
    lines = [
        f"| {corner:{width}} | " + " | ".join(f"{method:17}" for method in methods) + " |",
        f"|{'-' * (width + 2)}|" + "|".join("-" * 19 for _ in methods) + "|",
    ]
    lines += [f"| {name:{width}} | " + " | ".join(f"{row[m].cell:17}" for m in methods) + " |" for name, row in rows]
    lines += ["", f"Protocol: {next(iter(scores[0].values())).protocol}"]
    return "\n".join(lines)


def draw(photos: Sequence[Photo], scores: Sequence[Mapping[str, Score]], path: Path, *, title: str, size: int) -> None:
    """Draw a row for each photo: the whole HR with the place of the crop, then the crop in each version and in HR.

    Args:
        photos: what to show.
        scores: for each photo, method -> score of the whole image, printed under the crop.
        path: the picture to write.
        title: above all.
        size: side of the crop in HR pixels.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    columns = 2 + len(photos[0].versions)
    figure = Figure(figsize=(2.6 * columns, 3.0 * len(photos) + 0.5), layout="constrained", dpi=110)
    axes = figure.subplots(len(photos), columns, squeeze=False)
    for row, photo, score in zip(axes, photos, scores, strict=True):
        # Chosen on HR alone, so that no method picks its own best place.
        top, left = most_detailed_window(photo.hr, min(size, *photo.hr.shape[:2]))
        row[0].imshow(photo.hr)
        row[0].add_patch(Rectangle((left, top), size, size, fill=False, edgecolor="red", linewidth=1.5))
        row[0].set_xlabel(photo.name)
        for axis, (method, image) in zip(row[1:], {**photo.versions, "HR": photo.hr}.items(), strict=True):
            axis.imshow(image[top : top + size, left : left + size], interpolation="nearest")
            axis.set_title(method, fontsize=10)
            axis.set_xlabel(score[method].cell if method in score else "PSNR / SSIM on Y, whole photo", fontsize=8)
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    figure.suptitle(title, fontsize=11)
    figure.savefig(path)
