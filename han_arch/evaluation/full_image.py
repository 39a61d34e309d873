"""What a variant such as chop or tiles changes, against the same model on the whole image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from han_arch.evaluation.score import Score, mean_score
from han_arch.evaluation.score_cache import ScoreCache


@dataclass(frozen=True)
class FromFull:
    """Difference from the full image: mean PSNR in dB, and the largest difference of any sample in levels of 255."""

    psnr: float
    largest: int

    def __str__(self) -> str:
        return f"{self.psnr:+.3f} dB, largest pixel difference {self.largest}"


def compare(
    scores: Mapping[str, Score],
    full_scores: Mapping[str, Score],
    pictures: Mapping[str, str],
    full_pictures: Mapping[str, str],
    cache: ScoreCache,
) -> FromFull:
    """Compare a variant's images with those of the full image, image name by image name.

    Args:
        scores, full_scores: of the same images by the same protocol.
        pictures, full_pictures: keys in the cache.
        cache: has the images.
    """
    largest = 0
    for name, key in pictures.items():
        one, other = cache.load_picture(key), cache.load_picture(full_pictures[name])
        largest = max(largest, int(np.abs(one.astype(np.int16) - other).max()))
    return FromFull(mean_score(scores).mean.psnr - mean_score(full_scores).mean.psnr, largest)
