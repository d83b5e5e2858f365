"""Scores of a part of the data: every nodule once, whatever the batch, devices and processes."""

from __future__ import annotations

import numpy as np

from thyrojax import processes
from thyrojax.analysis import roc
from thyrojax.config import Config
from thyrojax.data import stream
from thyrojax.data.dataset import Dataset
from thyrojax.shapes import Bool, Float, Int, PyTree
from thyrojax.train.mapping import Mapping
from thyrojax.train.state import member_seeds


def score_rows(
    mapping: Mapping,
    variables: PyTree,
    dataset: Dataset,
    rows: Int[np.ndarray, " n"],
    config: Config,
    margin: int,
) -> Float[np.ndarray, " n"]:
    """Probability of malignant for each row, in the order of `rows`: the mean of the members'.

    Arguments are those of `member_scores`.
    """
    return member_scores(mapping, variables, dataset, rows, config, margin).mean(axis=1)


def member_scores(
    mapping: Mapping,
    variables: PyTree,
    dataset: Dataset,
    rows: Int[np.ndarray, " n"],
    config: Config,
    margin: int,
) -> Float[np.ndarray, "n members"]:
    """Probability of malignant for each row by each network of a run, in the order of `rows`.

    `variables` are as on the mapping's devices. The last batch is padded and its padding dropped.
    Of several processes each cuts its rows of the batches, and all get all scores.
    """
    scores = np.full((len(dataset), config.members), np.nan)
    own = np.zeros(len(dataset), bool)
    for batch in stream.evaluation_batches(
        dataset, rows, config, margin, config.batch_size, mapping.rows
    ):
        real = batch["mask"]
        found = mapping.score(variables, batch["image"]).reshape(len(real), config.members)
        scores[batch["index"][real]] = found[real]
        own[batch["index"][real]] = True
    return of_all_processes(scores[rows], own[rows])


def of_all_processes(
    scores: Float[np.ndarray, "n members"], own: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, "n members"]:
    """Scores of which each process has its own part, put together; that no two have one is checked.

    Args:
      scores: right where `own`.
      own: those that this process has.
    """
    found, by = processes.stacked(scores), processes.stacked(own.astype(np.uint8))
    times = by.sum(axis=0)
    if not np.all(times == 1):
        raise AssertionError(f"evaluation saw {np.sum(times == 1)} of {len(times)} records once")
    return found[np.argmax(by, axis=0), np.arange(len(times))]


def member_aucs(
    labels: Int[np.ndarray, " n"], scores: Float[np.ndarray, "n members"], config: Config
) -> dict[str, float]:
    """`val_auc_seed_S` of each network of a run with several, S its seed."""
    if config.members == 1:
        return {}
    return {
        f"val_auc_seed_{seed}": float(roc.auc(labels, scores[:, place]))
        for place, seed in enumerate(member_seeds(config))
    }


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
