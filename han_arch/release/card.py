"""Write the model card of a release for the Hugging Face Hub, and list the training sets with their terms of use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from han_arch.data.degradation import DEGRADATIONS
from han_arch.errors import UserError
from han_arch.evaluation.rows import Markdown, code, escaped, markdown_table
from han_arch.evaluation.score import Score
from han_arch.zoo.entry import Entry

CITATION = """@inproceedings{niu2020single,
  title     = {Single Image Super-Resolution via a Holistic Attention Network},
  author    = {Niu, Ben and Wen, Weilei and Ren, Wenqi and Zhang, Xiangde and Yang, Lianping and Wang, Shuzhen and
               Zhang, Kaihao and Cao, Xiaochun and Shen, Haifeng},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year      = {2020}
}"""


@dataclass(frozen=True)
class TrainingSet:
    """A training set and its terms of use.

    Attributes:
        name: name of the training set, and of its folder in datasets/.
        images: number of photos.
        what: short description of the photos.
        licence: name of the licence of weights that were trained on these photos, as written in their model card.
        prepare: arguments of `basicsr data prepare` other than the folders and the scale.
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
        "the train and test images of BSDS500 (481x321 JPEG) without 302003.jpg, which is the image woman of Set5; the "
        "val images of BSDS500 are B100 and are not used for training",
        "bsds500-non-commercial-research",
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html",
        "BSDS500 (UC Berkeley): non-commercial research and education only; weights trained on it carry these terms",
        ("--only", "lmdb", "--crop-size", "240", "--step", "120"),
    ),
    TrainingSet(
        "DIV2K",
        800,
        "the training images of DIV2K",
        "div2k-academic-research",
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/",
        "DIV2K: academic research only; weights trained on it carry these terms",
        ("--only", "lmdb"),
    ),
)


def find_training_set(name: str) -> TrainingSet:
    """Return the training set with this name.

    Raises:
        UserError: TRAINING_SETS does not contain the name, so the terms are unknown.
    """
    known = {training_set.name: training_set for training_set in TRAINING_SETS}
    if name not in known:
        raise UserError(
            f"the terms of the training set {name} are unknown, but a release must state them; add a row to "
            f"TRAINING_SETS in han_arch/release/card.py (known sets: {', '.join(known)})"
        )
    return known[name]


def model_card(
    entry: Entry, training_set: TrainingSet, bicubic: Mapping[str, Score], files: Mapping[str, str], seed: Any
) -> str:
    """Return the text of a release's model card.

    `bicubic` maps set names to mean PSNR and SSIM of bicubic interpolation. `files` maps file names to descriptions.
    """
    header = yaml.safe_dump(_front_matter(entry, training_set), sort_keys=False, allow_unicode=True, width=120)
    network = "{num_group} groups x {num_block} blocks x {num_feat} features".format(**entry.arguments)
    rows = []
    for expected in entry.expected:
        scores = (bicubic[expected.dataset], expected)
        rows.append([expected.dataset, *(f"{score.psnr:.2f} / {score.ssim:.4f}" for score in scores)])
    results = "\n".join(markdown_table(["set", "Bicubic", entry.name], rows))
    recipe, shown_seed = code(str(entry.recipe)), escaped(str(seed))
    listed = "\n".join(
        markdown_table(["file", "content"], [[code(name), Markdown(what)] for name, what in files.items()])
    )
    return f"""---
{header}---

# {entry.name}

A small HAN (Holistic Attention Network, ECCV 2020) for x{entry.scale} super-resolution of photos shrunk by
{DEGRADATIONS[entry.degradation].doc}:
{network}, {entry.parameters:,} parameters.

## Results

Mean PSNR (dB) / SSIM over the images of each set. The network runs on complete images, without tiles.
Protocol: `{entry.expected[0].protocol}`

{results}
`per_image.csv` has PSNR and SSIM of each image. `Set5/` has the SR images of Set5, so that you can check the scores.

## Use

```python
from han_arch import load_model

net = load_model("{entry.file}")  # RGB in [0, 1], (b, 3, h, w) -> (b, 3, {entry.scale}h, {entry.scale}w)
```

The header of the file has all construction arguments and the normalisation. `basicsr zoo verify {entry.file}` checks
the file.

## Training

- data: {training_set.name}, {training_set.images} photos: {training_set.what}
- option file: {recipe}, {entry.iterations:,} iterations, seed {shown_seed}; this folder has log, losses and curves
- origin: {escaped(entry.origin)}
- started from: {escaped(entry.started_from or "random weights")}
- published {entry.date} by han_arch at commit `{entry.commit or "unknown"}`

## Licence and terms of the data

Weights: {entry.licence}.
Data: {training_set.terms} ({training_set.licence_link}).

## Limits

The network was trained for one degradation and on few photos. On images from cameras and on compressed images, it also
sharpens noise and artefacts. HAN's attention uses the complete image, so processing in tiles changes the result.

## Files

{listed}
## Citation

Niu et al. (https://arxiv.org/abs/2008.08767) designed the network. They did not train these weights.

```
{CITATION}
```
"""


def _front_matter(entry: Entry, training_set: TrainingSet) -> dict[str, Any]:
    results = [
        {
            "task": {"type": "image-to-image", "name": f"Super-resolution {entry.task}"},
            "dataset": {"name": one.dataset, "type": one.dataset.lower()},
            "metrics": [
                {"type": "psnr", "value": round(one.psnr, 3), "name": f"PSNR ({one.protocol})"},
                {"type": "ssim", "value": round(one.ssim, 5), "name": f"SSIM ({one.protocol})"},
            ],
        }
        for one in entry.expected
    ]
    return {
        "license": "other",
        "license_name": training_set.licence,
        "license_link": training_set.licence_link,
        "library_name": "han_arch",
        "pipeline_tag": "image-to-image",
        "tags": ["super-resolution", "basicsr", "han", f"x{entry.scale}"],
        "metrics": ["psnr", "ssim"],
        "model-index": [{"name": entry.name, "results": results}],
    }
