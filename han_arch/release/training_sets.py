"""Training sets that releases may name: their terms, and how `basicsr data prepare` makes them."""

from dataclasses import dataclass

from han_arch.errors import UserError


@dataclass(frozen=True)
class TrainingSet:
    """A set of training photos.

    Attributes:
        name: of its folder under datasets/.
        images: how many photos.
        what: which photos these are.
        licence: what weights trained on it carry, as a licence's name for a model card.
        licence_link: where the terms stand.
        terms: what the owners ask, in a sentence.
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


def find(name: str) -> TrainingSet:
    """The set of a name.

    Raises:
        UserError: nothing is known of its terms.
    """
    for training_set in TRAINING_SETS:
        if training_set.name == name:
            return training_set
    known = ", ".join(training_set.name for training_set in TRAINING_SETS)
    raise UserError(
        f"the terms of the training set {name} are not known here (known: {known}); a release must say them: add a row "
        "to han_arch/release/training_sets.py"
    )
