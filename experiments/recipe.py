"""Which parts of the recipe matter?

    thyrojax study experiments/recipe.py --data phantom --small --workdir studies/recipe

One field of the preset changed at a time: optimizer, rates, what is frozen, smoothing, averaging,
augmentation. The paper states none of them.
"""

from collections.abc import Sequence
from typing import Any

from thyrojax.config import Config
from thyrojax.study.plan import SMALL, Arm, Study


def arms(base: Config) -> Sequence[Arm]:
    """The preset, and one change each."""
    changes: dict[str, tuple[str, dict[str, Any]]] = {
        "sgd": ("SGD with momentum, rate x 10", {"optimizer": "sgd", "lr": 10.0 * base.lr}),
        "rmsprop": ("RMSProp", {"optimizer": "rmsprop"}),
        "slower": ("rate x 1/3", {"lr": base.lr / 3.0}),
        "faster": ("rate x 3", {"lr": 3.0 * base.lr}),
        "one_rate": ("trunk at the head's rate", {"trunk_lr_scale": 1.0}),
        "head_only": ("trunk frozen, statistics too", {"trunk_lr_scale": 0.0, "freeze_bn": True}),
        "frozen_bn": ("BatchNorm statistics frozen", {"freeze_bn": True}),
        "layered": ("rate falls by 0.8 a block", {"layer_lr_decay": 0.8}),
        "head_first": ("head alone for one epoch", {"head_epochs": 1.0}),
        "smoothed": ("label smoothing 0.1", {"label_smoothing": 0.1}),
        "ema": ("averaged weights, decay 0.99", {"ema": 0.99}),
        "augmented": (
            "gain, contrast, rotation, zoom, speckle",
            {"gain": 0.1, "contrast": 0.1, "rotation": 10.0, "zoom": 0.1, "speckle": 0.2},
        ),
        "no_flip": ("no mirroring", {"flip": False}),
    }
    preset = Arm("preset", f"the preset: {base.optimizer}, rate {base.lr:g}")
    return [preset, *(Arm(name, words, fields) for name, (words, fields) in changes.items())]


study = Study(
    name="recipe",
    title="The recipe",
    question="Which fields of the recipe change the AUC?",
    arms=arms,
    reference="preset",
    small=SMALL,
)
