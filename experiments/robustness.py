"""How far does a score move when the scanner, the export or the reader's box differs?

    thyrojax study experiments/robustness.py --data phantom --small --workdir studies/robustness

One network for each seed and fold; its test nodules changed in six ways (`thyrojax.study.changes`)
at rising strength. The cutoff stays that of the unchanged validation part, as it would in use, so
sensitivity and specificity tell what the AUC hides.
"""

from collections.abc import Sequence

from thyrojax.config import Config
from thyrojax.study.plan import SMALL, Arm, Change, Scoring, Study

LEVELS: dict[str, tuple[str, tuple[float, ...]]] = {
    "gain": ("gain, x {:g}", (0.9, 0.8, 0.65, 0.5)),
    "blur": ("blur, {:g} input px", (0.5, 1.0, 2.0, 4.0)),
    "speckle": ("speckle, {:g}", (0.1, 0.2, 0.4, 0.6)),
    "box": ("box, edges moved by up to {:g} px", (1.0, 5.0, 10.0, 20.0)),
    "jpeg": ("JPEG, quality {:g}", (75.0, 50.0, 25.0, 10.0)),
    "downscale": ("downscaling, {:g} times", (1.5, 2.0, 3.0, 4.0)),
}


def scorings() -> tuple[Scoring, ...]:
    """As they are, and each change at each strength; strengths are steps on the figure's axis."""
    changed = [
        Scoring(
            f"{kind}{strength:g}",
            words.format(strength),
            change=Change(kind, strength),  # type: ignore[arg-type]
            x=float(step),
        )
        for kind, (words, strengths) in LEVELS.items()
        for step, strength in enumerate(strengths, start=1)
    ]
    return (Scoring("clean", "as they are"), *changed)


def arms(base: Config) -> Sequence[Arm]:
    """One network, scored in many ways."""
    return [Arm("network", "", scorings=scorings())]


study = Study(
    name="robustness",
    title="Robustness",
    question="How does the AUC fall with changes that should not matter?",
    arms=arms,
    reference="network-clean",
    small=SMALL,
    x_label="step of strength (the table has the units)",
)
