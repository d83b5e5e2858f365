"""Who the phantom's patients are: classes, features, grades and readers, all drawn from counts.

Frequencies are those of Guan et al. 2019, Table 2 (209 papillary carcinomas, 190 benign nodules of
the test group), each feature drawn independently given the class: joint counts were not published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thyrojax.errors import DataError
from thyrojax.vocabulary import SIZE_GROUPS, VOCABULARY, size_group

# Counts (benign, malignant) in the order of VOCABULARY. "Calcification, none" of the benign group
# is printed as 184 = 166 + 24, which is the column's total; 161 + 23 is what the other rows leave,
# and the only reading that gives the printed P = 0.659. All rows add up to 190 and 209 nodules.
COUNTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "composition": ((128, 1, 61), (208, 0, 1)),
    "echogenicity": ((3, 97, 81, 9), (0, 15, 193, 1)),
    "calcification": ((1, 2, 3, 184), (92, 11, 6, 100)),
    "margin": ((124, 1, 9, 54, 2, 0), (17, 24, 6, 109, 4, 49)),
    "shape": ((188, 2), (114, 95)),
    # The paper prints no counts by size, but its sensitivity, specificity and number of errors by
    # size leave one solution for benign nodules (43, 33, 114) and seven for carcinomas, from
    # (39, 90, 80) to (75, 18, 116); the middle one is taken.
    "size_group": ((43, 33, 114), (49, 71, 89)),
}
CATEGORIES: dict[str, tuple[str, ...]] = {
    name: SIZE_GROUPS if name == "size_group" else VOCABULARY[name] for name in COUNTS
}

# Largest diameter in mm within each size group, drawn log-uniformly and alike in both classes.
SIZE_RANGES_MM = {"<0.5": (3.0, 4.9), "0.5-1.0": (5.0, 10.0), ">1.0": (10.1, 22.0)}

MALIGNANT_FRACTION = 1484 / 2836  # of the paper's images
READER_SENSITIVITY = 177 / 209  # the paper's radiologists
READER_SPECIFICITY = 186 / 190
# Shares of patients with one, two, three images: 1.27 images a patient, as 2836 of 2235 patients.
VIEW_SHARES = (0.78, 0.17, 0.05)


@dataclass(frozen=True)
class Case:
    """One simulated patient: one nodule and how many frames show it. Lengths in mm."""

    seed: int
    patient: int
    n_views: int
    label: int
    size_mm: float
    composition: str
    echogenicity: str
    calcification: str
    margin: str
    shape: str
    tirads: str
    reader_label: int


def random_generator(seed: int, *key: int) -> np.random.Generator:
    """The generator of one patient, view or layer: a function of its numbers, in any process."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def draw_case(seed: int, patient: int, malignant_fraction: float = MALIGNANT_FRACTION) -> Case:
    """Draws patient number `patient` of the phantom with that seed; other patients play no part.

    Raises:
      DataError: a negative seed, or a fraction outside 0..1.
    """
    if seed < 0:
        raise DataError(f"phantom seed: found {seed}, expected a whole number >= 0")
    if not 0.0 <= malignant_fraction <= 1.0:
        raise DataError(
            f"phantom malignant_fraction: found {malignant_fraction}, expected a number from 0 to 1"
        )
    rng = random_generator(seed, patient)
    label = int(rng.random() < malignant_fraction)
    drawn: dict[str, str] = {}
    for name, counts in COUNTS.items():
        weights = np.array(counts[label], float)
        drawn[name] = CATEGORIES[name][rng.choice(len(weights), p=weights / weights.sum())]
    low, high = SIZE_RANGES_MM[drawn.pop("size_group")]
    size_mm = round(float(low * (high / low) ** rng.random()), 1)
    reader_right = rng.random() < (READER_SENSITIVITY if label else READER_SPECIFICITY)
    return Case(
        seed=seed,
        patient=patient,
        n_views=1 + int(rng.choice(3, p=VIEW_SHARES)),
        label=label,
        size_mm=size_mm,
        tirads=grade_tirads(**drawn),
        reader_label=label if reader_right else 1 - label,
        **drawn,
    )


def grade_tirads(
    composition: str, echogenicity: str, calcification: str, margin: str, shape: str
) -> str:
    """The TI-RADS grade of a nodule by counting suspicious features (Kwak et al. 2011).

    Suspicious are: solid; hypoechoic or markedly so; irregular or lobulated margin, to which
    extrathyroidal extension is added; microcalcification; taller than wide. One is 4a, two 4b,
    three or four 4c, five 5. None is 3 ("probably benign") where the margin is ill-defined or there
    is macrocalcification, else 2 ("not suspicious"): a cystic or spongiform, iso- or hyperechoic
    nodule with a smooth or halo margin. Kwak leaves 2 to the reader; this border of 2 is ours.
    """
    suspicious = (
        (composition == "solid")
        + (echogenicity in ("hypoechoic", "markedly_hypoechoic"))
        + (margin in ("irregular", "lobulated", "ete"))
        + (calcification == "micro")
        + (shape == "taller")
    )
    if suspicious == 0:
        return "3" if margin == "ill_defined" or calcification == "macro" else "2"
    return ("4a", "4b", "4c", "4c", "5")[suspicious - 1]


def log_likelihood_ratio(case: Case) -> float:
    """log p(features | malignant) - log p(features | benign) in nats; infinite where one is 0."""
    words = {"size_group": size_group(case.size_mm)}
    words |= {name: getattr(case, name) for name in COUNTS if name != "size_group"}
    places = {name: CATEGORIES[name].index(word) for name, word in words.items()}
    benign, malignant = (
        np.prod(
            [
                COUNTS[name][label][place] / sum(COUNTS[name][label])
                for name, place in places.items()
            ]
        )
        for label in (0, 1)
    )
    with np.errstate(divide="ignore"):
        return float(np.log(malignant) - np.log(benign))


def bayes_auc(features: Sequence[str] = tuple(COUNTS)) -> float:
    """The AUC of an ideal observer who is told these features of every nodule: no reader of the
    frames can do better in expectation, for all else in a frame is drawn alike in both classes.

    Exact: every combination of categories is listed with its probability in each class and ranked
    by its likelihood ratio (Neyman and Pearson); ties count half. The class prior does not enter.

    Args:
      features: names among those of `COUNTS`; all six by default.

    Raises:
      DataError: a name that is none of them.
    """
    benign, malignant = np.ones(1), np.ones(1)
    for name in features:
        if name not in COUNTS:
            raise DataError(
                f"bayes_auc: found feature {name!r}, expected one of {', '.join(COUNTS)}"
            )
        in_benign, in_malignant = (np.array(counts) / sum(counts) for counts in COUNTS[name])
        benign = np.outer(benign, in_benign).ravel()
        malignant = np.outer(malignant, in_malignant).ravel()
    possible = benign + malignant > 0
    benign, malignant = benign[possible], malignant[possible]
    # Rounded, so that equal ratios reached by different products are one rank.
    ratio = np.round(malignant / (benign + malignant), 12)
    ranks, place = np.unique(ratio, return_inverse=True)
    benign = np.bincount(place, benign, len(ranks))
    malignant = np.bincount(place, malignant, len(ranks))
    below = np.cumsum(benign) - benign
    return float(np.sum(malignant * (below + benign / 2)))
