"""What averaging buys: networks of several seeds, of several folds, several margins at test time.

    thyrojax study experiments/ensemble.py --data phantom --small --seeds 5 --workdir DIR

The single network is the mean of its seeds' figures; an ensemble is one, so its row has no spread
between seeds. Every nodule is scored by networks that saw no image of its patient: within a fold,
the members are of the same fold. The folds that are averaged are inner ones: what is no test is
dealt to five parts, and each of five networks is trained without one of them, its validation part.
"""

from collections.abc import Sequence

from thyrojax.config import Config
from thyrojax.study.plan import SMALL, Arm, Combined, Scoring, Study

INNER = 5
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the preset's largest margin


def arms(base: Config) -> Sequence[Arm]:
    """One network, scored at several margins."""
    scorings = tuple(
        Scoring(
            f"share{round(100 * share)}",
            f"margin {round(share * base.margin_max)} px",
            round(share * base.margin_max),
        )
        for share in SHARES
    )
    network = Arm("network", "one network", scorings=scorings)
    inner = [
        Arm(
            f"inner{k}",
            f"trained without inner fold {k}",
            {"inner_folds": INNER, "inner_fold": k},
            ingredient=True,
        )
        for k in range(INNER)
    ]
    return [network, *inner]


EVERY = tuple(f"network-share{round(100 * share)}" for share in SHARES)

study = Study(
    name="ensemble",
    title="Ensembles",
    question="What do several seeds, several folds and several margins at test time add?",
    arms=arms,
    reference="network-share50",
    answer="both",
    small=SMALL,
    combined=(
        Combined("margins", "one network, mean of its margins", EVERY),
        Combined("seeds", "mean of the seeds", ("network-share50",), over_seeds=True),
        Combined("folds", "mean of the inner folds", tuple(f"inner{k}" for k in range(INNER))),
        Combined("both", "mean of the seeds and margins", EVERY, over_seeds=True),
    ),
)
