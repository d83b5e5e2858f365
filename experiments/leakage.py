"""What splitting by image instead of by patient adds to a figure.

    thyrojax study experiments/leakage.py --data phantom --small --workdir studies/leakage

Much of this field splits its images at random, so that views of one patient lie on both sides. The
same set, the same folds in number, once dealt by patient and once by image: every nodule is tested
in both, so that the difference is paired. It is what the leak is worth, and no better network.
"""

from collections.abc import Sequence

from thyrojax.config import Config
from thyrojax.study.plan import SMALL, Arm, Study


def arms(base: Config) -> Sequence[Arm]:
    """Two ways to deal the folds."""
    return [
        Arm("patient", "split by patient"),
        Arm("image", "split by image", {"split_by": "image"}),
    ]


study = Study(
    name="leakage",
    title="Split by patient or by image",
    question="How much of an AUC is the leak of a split by image?",
    arms=arms,
    reference="patient",
    small=SMALL,
    folds=5,
    subgroups=("views",),
)
