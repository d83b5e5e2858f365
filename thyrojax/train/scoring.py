"""Scores of a part of the data: every nodule once, whatever the batch and the devices."""

from __future__ import annotations

import numpy as np

from thyrojax.analysis import roc
from thyrojax.config import Config
from thyrojax.data import stream
from thyrojax.data.dataset import Dataset
from thyrojax.shapes import Float, Int, PyTree
from thyrojax.train.mapping import Mapping


def score_rows(
    mapping: Mapping,
    variables: PyTree,
    dataset: Dataset,
    rows: Int[np.ndarray, " n"],
    config: Config,
    margin: int,
) -> Float[np.ndarray, " n"]:
    """Probability of malignant for each row, in the order of `rows`.

    `variables` are as on the mapping's devices. The last batch is padded and its padding dropped.
    """
    scores = np.full(len(dataset), np.nan)
    for batch in stream.evaluation_batches(dataset, rows, config, margin, config.batch_size):
        real = batch["mask"]
        scores[batch["index"][real]] = mapping.score(variables, batch["image"])[real]
    return scores[rows]


def part_figures(
    labels: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"]
) -> dict[str, float]:
    """`val_loss` (cross-entropy), `val_auc` and `val_accuracy` (at 0.5)."""
    right = np.clip(np.where(labels == 1, scores, 1.0 - scores), 1e-7, 1.0)
    return {
        "val_loss": float(-np.log(right).mean()),
        "val_auc": float(roc.auc(labels, scores)),
        "val_accuracy": float(np.mean((scores >= 0.5) == labels)),
    }
