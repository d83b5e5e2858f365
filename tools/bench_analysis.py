"""Time of the study's statistics, side by side with what a user would do without thyrojax.

    python tools/bench_analysis.py [--repeats 5]

Three comparisons on the same simulated scores, in one process, in turns (ours, peer, ours, ...):
the AUC with DeLong's variance against the n-by-m matrix of the original paper (as pROC's
`algorithm=2` and many scripts have it) and against scikit-learn's `roc_auc_score`, which gives no
variance; and the bootstrap over patients against a plain loop over resamples with scikit-learn.
Medians; read them as ratios: machines differ.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
import sklearn
from sklearn.metrics import confusion_matrix, roc_auc_score

from thyrojax.analysis import bootstrap
from thyrojax.analysis.cutoff import call_positive
from thyrojax.analysis.roc import estimate_auc

LOOP_RESAMPLES = 50  # of the plain loop, whose time is in proportion


def simulate(cases: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels, scores with an AUC of about 0.86, and patients with one to three images each."""
    random = np.random.default_rng(seed)
    labels = (random.random(cases) < 0.5).astype(np.int64)
    scores = 1.0 / (1.0 + np.exp(-random.normal(1.5 * labels, 1.0)))
    patients = np.sort(random.integers(cases // 2, size=cases))
    return labels, scores, [f"p{patient}" for patient in patients]


def matrix_delong(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """AUC and variance from all pairs, a block at a time (DeLong et al. 1988)."""
    positives, negatives = scores[labels == 1], scores[labels == 0]
    of_positives = np.empty(len(positives))
    of_negatives = np.zeros(len(negatives))
    for start in range(0, len(positives), 500):
        block = positives[start : start + 500, np.newaxis]
        won = (block > negatives) + 0.5 * (block == negatives)
        of_positives[start : start + 500] = won.mean(axis=1)
        of_negatives += won.sum(axis=0)
    of_negatives /= len(positives)
    variance = of_positives.var(ddof=1) / len(positives)
    return float(of_positives.mean()), float(variance + of_negatives.var(ddof=1) / len(negatives))


def loop_bootstrap(
    labels: np.ndarray, scores: np.ndarray, patients: list[str], resamples: int
) -> list[tuple[float, float, float]]:
    """AUC, sensitivity and specificity of resampled patients, one resample after the other."""
    random = np.random.default_rng(0)
    rows_of: dict[str, list[int]] = {}
    for row, patient in enumerate(patients):
        rows_of.setdefault(patient, []).append(row)
    names = list(rows_of)
    values = []
    for _ in range(resamples):
        drawn = random.integers(len(names), size=len(names))
        rows = np.concatenate([rows_of[names[index]] for index in drawn])
        counts = confusion_matrix(labels[rows], scores[rows] >= 0.5)
        sensitivity, specificity = counts[1, 1] / counts[1].sum(), counts[0, 0] / counts[0].sum()
        values.append((float(roc_auc_score(labels[rows], scores[rows])), sensitivity, specificity))
    return values


def our_bootstrap(
    labels: np.ndarray, scores: np.ndarray, patients: list[str], resamples: int
) -> dict[str, np.ndarray]:
    """The same three figures by weights."""
    area = bootstrap.weighted_auc(labels, scores)
    counts = bootstrap.weighted_counts(labels, call_positive(scores, 0.5))
    return bootstrap.cluster_bootstrap(
        lambda weights: {**area(weights), **counts(weights)}, patients, resamples
    )


def timed(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each call, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def bench_auc(cases: int, repeats: int, with_matrix: bool) -> None:
    labels, scores, _ = simulate(cases)
    calls: dict[str, Callable[[], Any]] = {
        "thyrojax": lambda: estimate_auc(labels, scores),
        "scikit-learn, no variance": lambda: roc_auc_score(labels, scores),
    }
    ours = estimate_auc(labels, scores)
    if with_matrix:
        calls["matrix of all pairs"] = lambda: matrix_delong(labels, scores)
        area, variance = matrix_delong(labels, scores)
        assert abs(area - ours.auc) < 1e-12
        assert ours.variance is not None
        assert abs(variance / ours.variance - 1) < 1e-9
    assert abs(roc_auc_score(labels, scores) - ours.auc) < 1e-12
    report(f"AUC and DeLong's variance, {cases:,} cases", timed(calls, repeats))


def bench_bootstrap(cases: int, resamples: int, repeats: int) -> None:
    labels, scores, patients = simulate(cases)
    seconds = timed(
        {
            "thyrojax": lambda: our_bootstrap(labels, scores, patients, resamples),
            "loop": lambda: loop_bootstrap(labels, scores, patients, LOOP_RESAMPLES),
        },
        repeats,
    )
    loop = seconds.pop("loop") * resamples / LOOP_RESAMPLES
    title = f"bootstrap over patients, {cases:,} nodules, {resamples:,} resamples"
    report(title, {**seconds, f"plain loop ({LOOP_RESAMPLES} timed, in proportion)": loop})


def report(title: str, seconds: dict[str, float]) -> None:
    print(title)
    for name, value in seconds.items():
        print(f"  {name:<42} {value:9.4f} s   {value / seconds['thyrojax']:8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, "
        f"numpy {np.__version__}, scipy {scipy.__version__}, scikit-learn {sklearn.__version__}"
    )
    print("seconds (median), and times thyrojax's")
    bench_auc(1_000, repeats, with_matrix=True)
    bench_auc(20_000, repeats, with_matrix=True)
    bench_auc(1_000_000, repeats, with_matrix=False)
    bench_bootstrap(400, 2_000, repeats)
    bench_bootstrap(10_000, 2_000, repeats)


if __name__ == "__main__":
    main()
