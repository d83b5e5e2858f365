"""The paper in one command: Table 1, input sizes, size groups, Tables 2 and 3, readers, figures.

    thyrojax study experiments/guan2019 --data phantom --small --workdir studies/guan2019

One network trained with random margins and evaluated at 0 to 100 px, and the same recipe at other
input sizes, as Guan et al. 2019 tell it; then everything that they print, by the statistics of
`thyrojax analyse`, with their figures beside ours. Any set will do; what a set has no column for
(features, sizes, a reader) is left out and said so.

Cost and results: experiments/README.md.
"""

from collections.abc import Sequence

from experiments.guan2019.beside import sections
from thyrojax.config import Config
from thyrojax.study.plan import Arm, Scoring, Study

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the largest margin: 0, 25, 50, 75, 100 px
SIZES = (224, 256, 299, 480)  # beside the base's own 384
CPU_SIZES = (75, 96, 128, 160)


def arms(base: Config) -> Sequence[Arm]:
    """The paper's network at every margin, kept for the report; then one for each input size."""
    scorings = tuple(
        Scoring(f"m{m}", f"margin {m} px", m, x=float(m))
        for m in (round(share * base.margin_max) for share in SHARES)
    )
    sizes = SIZES if base.input_size >= min(SIZES) else CPU_SIZES
    return [
        Arm("main", f"{base.input_size} px", scorings=scorings, keep=True),
        *(Arm(f"px{n}", f"{n} px", {"input_size": n}) for n in sizes if n != base.input_size),
    ]


study = Study(
    name="guan2019",
    title="Guan et al. 2019, done again",
    question="What does the paper's system give on these nodules?",
    arms=arms,
    reference=lambda base: f"main-m{base.margin_max // 2}",
    small={"input_size": 128, "epochs": 5.0},
    seeds=1,
    x_label="margin in evaluation, px",
    expected=(
        "Guan et al. 2019 on 399 test nodules: sensitivity 93.3 %, specificity 87.4 %, Az 0.956 "
        "at 384 px and margin 50 px."
    ),
    after=sections,
)
