"""Does a larger input pay?

    thyrojax study experiments/input_size.py --data phantom --small --workdir studies/input_size

The same recipe at several input sizes. On presets for two CPU cores the sizes are small ones.
"""

from collections.abc import Sequence

from thyrojax.config import Config
from thyrojax.study.plan import SMALL, Arm, Study

SIZES = (224, 256, 299, 384, 480)  # Guan et al. 2019 chose 384
CPU_SIZES = (75, 96, 128, 160, 192)


def arms(base: Config) -> Sequence[Arm]:
    """One arm a size."""
    sizes = CPU_SIZES if base.input_size < min(SIZES) else SIZES
    return [Arm(f"px{n}", f"{n} px", {"input_size": n}, x=float(n)) for n in sizes]


study = Study(
    name="input_size",
    title="Input size",
    question="How does the AUC depend on the input size?",
    arms=arms,
    reference=lambda base: f"px{base.input_size}",
    small=SMALL,
    x_label="input size, px",
    expected="The paper chose 384 px by ROC analysis and prints no figures for other sizes.",
)
