"""How wide should the window be: margins in training and in evaluation, units, borders, overlay.

    thyrojax study experiments/margin.py --data phantom --small --workdir studies/margin
    thyrojax study experiments/margin.py --data data/ddti unmasked=data/ddti_unmasked --workdir DIR

The paper draws the training margin from 0..100 px anew for each image and iteration, and evaluates
at 50 px. Against that: one fixed margin in training; margins in millimetres (where every frame has
its pixel spacing); other fillings of what lies outside the frame; and, where the set was also
built with --no-mask-overlay, frames whose burnt-in text and calipers were left in. Margins are
shares of the preset's largest one, 100 px but for the small frames of BUS-BRA. Frames of the
phantom are black along every edge, so that repeating the edge is what the preset does there.
"""

from collections.abc import Sequence

from thyrojax.config import Config
from thyrojax.data.dataset import Dataset
from thyrojax.study.plan import SMALL, Arm, Scoring, Study

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
BORDERS = {"edge": "edge repeated", "reflect": "mirrored", "shift": "window moved inside"}
MILLIMETRES = 10  # the largest margin in mm; the smallest is 0 and that of evaluation half of it


def arms(base: Config) -> Sequence[Arm]:
    """Random and fixed training margins, each scored at all margins; the rest at the middle one."""
    most, middle = base.margin_max, base.margin_max // 2
    margins = [round(share * most) for share in SHARES]
    scorings = tuple(Scoring(f"m{m}", f"evaluated at {m} px", m, x=float(m)) for m in margins)
    fixed = [
        Arm(
            f"fixed{m}", f"trained at {m} px", {"margin_min": m, "margin_max": m}, scorings=scorings
        )
        for m in (0, middle, most)
    ]
    borders = [
        Arm(border, f"outside the frame: {words}", {"border": border, "margin_eval": middle})
        for border, words in BORDERS.items()
    ]
    return [
        Arm(
            "random",
            f"trained at 0 to {most} px",
            scorings=scorings,
            probe_label="trained at the same margin",
        ),
        *fixed,
        Arm(
            "mm",
            f"trained at 0 to {MILLIMETRES} mm, evaluated at {MILLIMETRES // 2} mm",
            {"margin_unit": "mm", "margin_max": MILLIMETRES, "margin_eval": MILLIMETRES // 2},
            lacks=no_spacing,
        ),
        *borders,
        Arm(
            "unmasked",
            f"text left in, trained at 0 to {most} px",
            scorings=scorings,
            data="unmasked",
            probe_label="text left in",
        ),
    ]


def no_spacing(dataset: Dataset) -> str:
    """What the arm in millimetres lacks."""
    without = sum(not record.pixel_spacing_mm for record in dataset.records)
    return f"found {without} frames without pixel spacing, expected none" if without else ""


study = Study(
    name="margin",
    title="Margins",
    question="Which margin in training and in evaluation, and what does a wide one really add?",
    arms=arms,
    reference=lambda base: f"random-m{base.margin_max // 2}",
    small=SMALL,
    x_label="margin in evaluation, px",
    expected=(
        "Guan et al. 2019, Table 1: Az 0.921, 0.947, 0.956, 0.954, 0.944 at 0, 25, 50, 75, 100 px."
    ),
)
