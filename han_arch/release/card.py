"""The model card of a release: README.md with the front matter of the Hugging Face Hub."""

from collections.abc import Mapping
from typing import Any

import yaml

from han_arch.evaluation.score import Score
from han_arch.release.training_sets import TrainingSet
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


def model_card(
    entry: Entry, training_set: TrainingSet, bicubic: Mapping[str, Score], files: Mapping[str, str], seed: Any
) -> str:
    """The card's text.

    Args:
        entry: the release's row.
        training_set: what it was trained on.
        bicubic: set -> bicubic's mean score by the same protocol.
        files: file -> what it is.
        seed: the training's `manual_seed`.
    """
    header = yaml.safe_dump(_front_matter(entry, training_set), sort_keys=False, allow_unicode=True, width=120)
    a = entry.arguments
    protocol = entry.expected[0].protocol
    results = "\n".join(
        f"| {e.dataset} | {bicubic[e.dataset].psnr:.2f} / {bicubic[e.dataset].ssim:.4f} | {e.psnr:.2f} / {e.ssim:.4f} |"
        for e in entry.expected
    )
    listed = "\n".join(f"| `{name}` | {what} |" for name, what in files.items())
    return f"""---
{header}---

# {entry.name}

A small HAN (Holistic Attention Network, ECCV 2020) for x{entry.scale} super-resolution of photos that were shrunk by
{entry.shrunk_by}:
{a["num_group"]} groups x {a["num_block"]} blocks x {a["num_feat"]} features, {entry.parameters:,} parameters.

## Results

Mean PSNR (dB) / SSIM, whole images.
Protocol: `{protocol}`

| set | Bicubic | {entry.name} |
|---|---|---|
{results}

Each image's numbers: `per_image.csv`. The SR images of Set5 are in `Set5/`, so that others can check the metric.

## Use

```python
from han_arch import load_model

net = load_model("{entry.file}")  # RGB in [0, 1], (b, 3, h, w) -> (b, 3, {entry.scale}h, {entry.scale}w)
```

The file's header holds all construction arguments and the normalisation; `basicsr zoo verify {entry.file}` checks it.

## Training

- data: {training_set.name}, {training_set.images} photos: {training_set.what}
- recipe: `{entry.recipe}`, {entry.iterations:,} iterations, seed {seed}; log, numbers and curves are beside this card
- origin: {entry.origin}
- started from: {entry.started_from or "random weights"}
- published {entry.date} by han_arch at commit `{entry.commit or "unknown"}`

## Licence and terms of the data

Weights: {entry.licence}.
Data: {training_set.terms} ({training_set.licence_link}).

## Limits

Trained for this one degradation and on few photos: on images from cameras or with compression it sharpens artefacts
too. HAN's attention looks at the whole image, so cutting an image into tiles changes its result.

## Files

| file | what |
|---|---|
{listed}

## Citation

The network is that of Niu et al. ({PAPER}); these weights are not theirs.

```
{CITATION}
```
"""


def _front_matter(entry: Entry, training_set: TrainingSet) -> dict[str, Any]:
    return {
        "license": "other",
        "license_name": training_set.licence,
        "license_link": training_set.licence_link,
        "library_name": LIBRARY,
        "pipeline_tag": "image-to-image",
        "tags": ["super-resolution", "basicsr", "han", f"x{entry.scale}"],
        "metrics": ["psnr", "ssim"],
        "model-index": [
            {
                "name": entry.name,
                "results": [
                    {
                        "task": {"type": "image-to-image", "name": f"Super-resolution {entry.task}"},
                        "dataset": {"name": expected.dataset, "type": expected.dataset.lower()},
                        "metrics": [
                            {
                                "type": kind,
                                "value": round(value, digits),
                                "name": f"{kind.upper()} ({expected.protocol})",
                            }
                            for kind, value, digits in (("psnr", expected.psnr, 3), ("ssim", expected.ssim, 5))
                        ],
                    }
                    for expected in entry.expected
                ],
            }
        ],
    }
