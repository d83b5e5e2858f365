"""The words of the field that both halves share: labels, sonographic features, size groups."""

from __future__ import annotations

import math

LABELS = ("benign", "malignant")  # the index is the label: malignant = 1
TIRADS = ("2", "3", "4a", "4b", "4c", "5")

# Table 2 of Guan et al. 2019, in its order.
VOCABULARY: dict[str, tuple[str, ...]] = {
    "composition": ("solid", "cystic", "spongiform"),
    "echogenicity": ("hyperechoic", "isoechoic", "hypoechoic", "markedly_hypoechoic"),
    "calcification": ("micro", "macro", "comet_tail", "none"),
    "margin": ("smooth", "irregular", "lobulated", "ill_defined", "halo", "ete"),
    "shape": ("wider", "taller"),
    "tirads": TIRADS,
}

# In predictions.csv `margin` is the crop's; the nodule's own edge has a longer name.
PREDICTION_FEATURES: dict[str, tuple[str, ...]] = {
    "margin_feature" if name == "margin" else name: words for name, words in VOCABULARY.items()
}

# Size groups of the paper in mm: below 5, 5 to 10 inclusive, above 10.
SIZE_GROUPS = ("<0.5", "0.5-1.0", ">1.0")


def size_group(size_mm: float | None) -> str:
    """The paper's size group of a largest diameter in mm; "" where the size is not known."""
    if size_mm is None or math.isnan(size_mm):
        return ""
    if size_mm < 5.0:
        return SIZE_GROUPS[0]
    return SIZE_GROUPS[1] if size_mm <= 10.0 else SIZE_GROUPS[2]


def normalise(word: str) -> str:
    """A word as vocabularies spell it: lower case, underscores for blanks and hyphens."""
    return "_".join(word.casefold().replace("-", " ").replace("_", " ").split())
