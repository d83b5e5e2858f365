"""What is the ImageNet start worth, and how does that depend on the number of patients?

    thyrojax study experiments/initialisation.py --data phantom --small --workdir studies/start

Fine-tuned from ImageNet weights, the same from random weights, and an L2 logistic regression (C =
1e-3, balanced, standardised) on the frozen pooled features; each with a quarter, half and all of
the training patients, at one number of epochs: fewer patients are fewer steps of training, too,
which the frozen features are free of. Then other sources of ImageNet weights, where they can be had
(`thyrojax weights fetch TAG`).
"""

from collections.abc import Callable, Sequence

from thyrojax.config import Config
from thyrojax.data.dataset import Dataset
from thyrojax.errors import WeightsError
from thyrojax.study.plan import SMALL, Arm, Study

STARTS = {
    "imagenet": ("from ImageNet weights", {}),
    "random": ("from random weights", {"weights": "none"}),
    "frozen": ("frozen ImageNet features", {}),
}
SHARES = (0.25, 0.5, 1.0)
SOURCES = {  # tag: (words, pooling that its own network has)
    "torchvision": ("torchvision's weights", "padded"),
    "timm-tf_in1k": ("TF-slim's weights, timm's port", "valid"),
}


def arms(base: Config) -> Sequence[Arm]:
    """Each start at each share of the training patients, then the other sources at all of them."""
    found = [
        Arm(
            name if share == 1.0 else f"{name}-{round(100 * share)}",
            f"{words}, {round(100 * share)} % of the patients",
            {**changes, "train_share": share},
            method="frozen" if name == "frozen" else "train",
            x=100.0 * share,
        )
        for name, (words, changes) in STARTS.items()
        for share in SHARES
    ]
    return found + [
        Arm(tag, words, {"weights": tag, "pooling": pooling}, lacks=not_fetched(tag))
        for tag, (words, pooling) in SOURCES.items()
    ]


def not_fetched(tag: str) -> Callable[[Dataset], str]:
    """What an arm of catalogued weights lacks: the weights, where they cannot be had."""

    def lacks(dataset: Dataset) -> str:
        from thyrojax import weights

        try:
            weights.locate(tag)
        except WeightsError as error:
            return str(error)
        return ""

    return lacks


study = Study(
    name="initialisation",
    title="Where training starts from",
    question="What is the ImageNet start worth, and with how many patients?",
    arms=arms,
    reference="imagenet",
    answer="random",
    small=SMALL,
    x_label="training patients, %",
)
