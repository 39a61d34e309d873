"""The model card of a release (README.md with the front matter of the Hugging Face Hub), and its training sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from han_arch.data.degradation import DEGRADATIONS
from han_arch.errors import UserError
from han_arch.evaluation.rows import markdown_table
from han_arch.evaluation.score import Score
from han_arch.zoo.entry import Entry

LIBRARY = "han_arch"
PAPER = "https://arxiv.org/abs/2008.08767"
CITATION = """@inproceedings{niu2020single,
  title     = {Single Image Super-Resolution via a Holistic Attention Network},
  author    = {Niu, Ben and Wen, Weilei and Ren, Wenqi and Zhang, Xiangde and Yang, Lianping and Wang, Shuzhen and
               Zhang, Kaihao and Cao, Xiaochun and Shen, Haifeng},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year      = {2020}
}"""


@dataclass(frozen=True)
class TrainingSet:
    """A set of training photos, with its terms.

    Attributes:
        name: of its folder under datasets/.
        images: number of photos.
        what: the photos in words.
        licence: name of the licence of weights trained on it, for a model card.
        licence_link: address of the terms.
        terms: the owners' terms in a sentence.
        prepare: flags of `basicsr data prepare` besides folders and scale.
    """

    name: str
    images: int
    what: str
    licence: str
    licence_link: str
    terms: str
    prepare: tuple[str, ...]


TRAINING_SETS = (
    TrainingSet(
        "BSDS400",
        399,
        "the train and test parts of BSDS500 (481x321 JPEG) without 302003.jpg, which is Set5's woman; B100 is its "
        "val part, unseen",
        "bsds500-non-commercial-research",
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html",
        "BSDS500 (UC Berkeley): non-commercial research and education only; weights trained on it carry these terms",
        ("--only", "lmdb", "--crop-size", "240", "--step", "120"),
    ),
    TrainingSet(
        "DIV2K",
        800,
        "the training part of DIV2K",
        "div2k-academic-research",
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/",
        "DIV2K: academic research only; weights trained on it carry these terms",
        ("--only", "lmdb"),
    ),
)


def find_training_set(name: str) -> TrainingSet:
    """Return the training set with a name.

    Raises:
        UserError: the terms of this set are unknown.
    """
    known = {training_set.name: training_set for training_set in TRAINING_SETS}
    if name not in known:
        raise UserError(
            f"unknown terms of the training set {name} (known sets: {', '.join(known)}); a release must state them: "
            "add a row to TRAINING_SETS in han_arch/release/card.py"
        )
    return known[name]


def model_card(
    entry: Entry, training_set: TrainingSet, bicubic: Mapping[str, Score], files: Mapping[str, str], seed: Any
) -> str:
    """Return the card's text.

    Args:
        entry, training_set: of the release and of its training.
        bicubic: set -> mean score of bicubic interpolation by the same protocol.
        files: file -> description.
        seed: the training's `manual_seed`.
    """
    header = yaml.safe_dump(_front_matter(entry, training_set), sort_keys=False, allow_unicode=True, width=120)
    network = "{num_group} groups x {num_block} blocks x {num_feat} features".format(**entry.arguments)
    rows = []
    for expected in entry.expected:
        scores = (bicubic[expected.dataset], expected)
        rows.append([expected.dataset, *(f"{score.psnr:.2f} / {score.ssim:.4f}" for score in scores)])
    results = "\n".join(markdown_table(["set", "Bicubic", entry.name], rows))
    listed = "\n".join(markdown_table(["file", "content"], [[f"`{name}`", what] for name, what in files.items()]))
    return f"""---
{header}---

# {entry.name}

A small HAN (Holistic Attention Network, ECCV 2020) for x{entry.scale} super-resolution of photos shrunk by
{DEGRADATIONS[entry.degradation].doc}:
{network}, {entry.parameters:,} parameters.

## Results

Mean PSNR (dB) / SSIM, whole images.
Protocol: `{entry.expected[0].protocol}`

{results}
`per_image.csv` has the numbers of each image. `Set5/` has the SR images of Set5, to check the metric.

## Use

```python
from han_arch import load_model

net = load_model("{entry.file}")  # RGB in [0, 1], (b, 3, h, w) -> (b, 3, {entry.scale}h, {entry.scale}w)
```

The file's header has all construction arguments and the normalisation; `basicsr zoo verify {entry.file}` checks it.

## Training

- data: {training_set.name}, {training_set.images} photos: {training_set.what}
- recipe: `{entry.recipe}`, {entry.iterations:,} iterations, seed {seed}; this folder has its log, numbers and curves
- origin: {entry.origin}
- started from: {entry.started_from or "random weights"}
- published {entry.date} by han_arch at commit `{entry.commit or "unknown"}`

## Licence and terms of the data

Weights: {entry.licence}.
Data: {training_set.terms} ({training_set.licence_link}).

## Limits

The network was trained for one degradation and on few photos. On images from cameras, or with compression, it sharpens
artefacts too. HAN's attention uses the whole image, so processing in tiles changes the result.

## Files

{listed}
## Citation

The network was designed by Niu et al. ({PAPER}); these weights are not theirs.

```
{CITATION}
```
"""


def _front_matter(entry: Entry, training_set: TrainingSet) -> dict[str, Any]:
    results = []
    for expected in entry.expected:
        values = {"psnr": round(expected.psnr, 3), "ssim": round(expected.ssim, 5)}
        results.append(
            {
                "task": {"type": "image-to-image", "name": f"Super-resolution {entry.task}"},
                "dataset": {"name": expected.dataset, "type": expected.dataset.lower()},
                "metrics": [
                    {"type": kind, "value": value, "name": f"{kind.upper()} ({expected.protocol})"}
                    for kind, value in values.items()
                ],
            }
        )
    return {
        "license": "other",
        "license_name": training_set.licence,
        "license_link": training_set.licence_link,
        "library_name": LIBRARY,
        "pipeline_tag": "image-to-image",
        "tags": ["super-resolution", "basicsr", "han", f"x{entry.scale}"],
        "metrics": ["psnr", "ssim"],
        "model-index": [{"name": entry.name, "results": results}],
    }
