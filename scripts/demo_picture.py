"""Show the results of the demo: draw a picture of crops and make a table of scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from han_arch.evaluation.rows import markdown_table
from han_arch.evaluation.score import Score, mean_score
from han_arch.images.picture import most_detailed_window


@dataclass(frozen=True)
class Photo:
    """One test photo, and several upscaled versions of its LR image. All images are (h, w, 3) uint8 RGB."""

    name: str
    hr: np.ndarray
    versions: Mapping[str, np.ndarray]  # name of a method -> upscaled image, in the order of the columns


def mean_scores(scores: Sequence[Mapping[str, Score]]) -> dict[str, Score]:
    """Average the scores of each method over the photos."""
    return {method: mean_score({str(i): row[method] for i, row in enumerate(scores)}) for method in scores[0]}


def table(names: Sequence[str], scores: Sequence[Mapping[str, Score]]) -> str:
    """Return a Markdown table of scores (rows: photos, mean; columns: methods) and a line that names the protocol."""
    methods = list(scores[0])
    named = [*zip(names, scores, strict=True), ("mean", mean_scores(scores))]
    rows = [[name, *(row[method].cell for method in methods)] for name, row in named]
    protocol = next(iter(scores[0].values())).protocol
    return "\n".join([*markdown_table(["PSNR / SSIM on Y", *methods], rows), f"Protocol: {protocol}"])


def draw(photos: Sequence[Photo], scores: Sequence[Mapping[str, Score]], path: Path, *, title: str, size: int) -> None:
    """Draw one row per photo: the complete HR photo with a marked crop, then the crop of each upscaled image and of HR.

    The crop has `size` x `size` HR pixels. It is the most detailed window of the HR photo, and so favours no method.
    The text below a crop is the score of the complete photo. `scores` has one mapping per photo, from method to score.
    """
    columns = 2 + len(photos[0].versions)
    figure = Figure(figsize=(2.6 * columns, 3.0 * len(photos) + 0.5), layout="constrained", dpi=110)
    axes = figure.subplots(len(photos), columns, squeeze=False)
    for row, photo, score in zip(axes, photos, scores, strict=True):
        top, left = most_detailed_window(photo.hr, min(size, *photo.hr.shape[:2]))
        row[0].imshow(photo.hr)
        row[0].add_patch(Rectangle((left, top), size, size, fill=False, edgecolor="red", linewidth=1.5))
        row[0].set_xlabel(photo.name)
        for axis, (method, image) in zip(row[1:], {**photo.versions, "HR": photo.hr}.items(), strict=True):
            axis.imshow(image[top : top + size, left : left + size], interpolation="nearest")
            axis.set_title(method, fontsize=10)
            axis.set_xlabel(score[method].cell if method in score else "PSNR / SSIM on Y, complete photo", fontsize=8)
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    figure.suptitle(title, fontsize=11)
    figure.savefig(path)
