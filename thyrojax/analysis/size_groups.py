"""What a model does on small, middle and large nodules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from thyrojax.analysis.bootstrap import RESAMPLES, resampling_note
from thyrojax.analysis.intervals import METHODS, Proportions
from thyrojax.analysis.measures import (
    Measure,
    estimate_measures,
    measure_columns,
    measure_notes,
)
from thyrojax.analysis.predictions import Predictions, check_cases, take
from thyrojax.analysis.sample_size import too_small
from thyrojax.analysis.table import Table, table_of
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Float

SIZE_COLUMN = "size_mm"
SHOWN = ("sensitivity", "specificity", "AUC")
NOT_STATED, ALL = "not stated", "all"


def size_table(
    predictions: Predictions,
    cutoff: float,
    edges_cm: Sequence[float] = (0.5, 1.0),
    *,
    interval: Proportions = "wilson",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Table:
    """Sensitivity, specificity and AUC by the nodule's largest diameter, from the column `size_mm`.

    With the paper's edges the groups are <0.5, 0.5-1.0 (both included) and >1.0 cm. Nodules whose
    size nobody stated have a row of their own where there are any; the last row is of all.
    Columns: group, n, n_positive, n_negative, then each measure with NAME_low and NAME_high, where
    patients have several images NAME_cluster_low and NAME_cluster_high, and note.

    Raises:
      PredictionsError: as `check_cases`; no column `size_mm`; a size that is no number or is
        negative (the message names the row); edges that are not positive and rising.
    """
    check_cases(predictions.labels, predictions.scores)
    names = group_names(edges_cm)
    sizes = sizes_mm(predictions)
    groups = {name: np.zeros(0, dtype=np.int64) for name in names}
    known = np.flatnonzero(~np.isnan(sizes))
    of_known = _group_numbers(sizes[known], edges_cm)
    for number, name in enumerate(names):
        groups[name] = known[of_known == number]
    if len(known) < len(sizes):
        groups[NOT_STATED] = np.flatnonzero(np.isnan(sizes))
    groups[ALL] = np.arange(len(sizes))
    n_patients = len(set(predictions.patient_ids))
    clusters = n_patients < len(predictions)
    records: list[dict[str, Any]] = []
    for name, rows in groups.items():
        cases = take(predictions, rows)
        n_positive = int(cases.labels.sum())
        if len(rows):
            found = estimate_measures(
                cases.labels,
                cases.scores,
                cutoff,
                cases.patient_ids,
                names=SHOWN,
                interval=interval,
                clusters=clusters,
                resamples=resamples,
                seed=seed,
            )
            notes = [*measure_notes(found), too_small(n_positive, len(rows) - n_positive)]
        else:
            found = {shown: Measure(None, None, None, 0, "none", "") for shown in SHOWN}
            notes = ["no case in this group"]
        records.append(
            {
                "group": name,
                "n": len(rows),
                "n_positive": n_positive,
                "n_negative": len(rows) - n_positive,
                **measure_columns(found, clusters),
                "note": "; ".join(filter(None, notes)),
            }
        )
    footnotes = [
        "Groups by the largest diameter in cm.",
        f"95 % intervals that take the images as independent: {METHODS[interval]}; AUC: DeLong.",
    ]
    if clusters:
        footnotes.append(resampling_note(len(predictions), n_patients, resamples, seed))
        footnotes.append("Each row resamples the patients of its group.")
    unknown = len(sizes) - len(known)
    if unknown:
        footnotes.append(f"The size of {unknown:,} of {len(sizes):,} nodules is not stated.")
    return table_of(
        "size_groups",
        f"Performance by size of the nodule at the cutoff {cutoff:.4g}: {len(sizes):,} images of "
        f"{n_patients:,} patients.",
        records,
        footnotes,
    )


def sizes_mm(predictions: Predictions) -> Float[np.ndarray, " cases"]:
    """The column `size_mm` as numbers; NaN where the cell is empty.

    Raises:
      PredictionsError: no such column, or a cell that is no number from 0 up.
    """
    if SIZE_COLUMN not in predictions.columns:
        raise PredictionsError(f"predictions: found no column {SIZE_COLUMN}, expected sizes in mm")
    sizes = np.full(len(predictions), math.nan)
    for row, cell in enumerate(predictions.columns[SIZE_COLUMN]):
        if not cell.strip():
            continue
        try:
            size = float(cell)
        except ValueError:
            size = math.nan
        if not 0.0 <= size < math.inf:
            raise PredictionsError(
                f"{SIZE_COLUMN}, row {row + 1} (image_id {predictions.image_ids[row]!r}): found "
                f"{cell[:60]!r}, expected a size in mm (a number from 0 up) or an empty cell"
            )
        sizes[row] = size
    return sizes


def group_names(edges_cm: Sequence[float]) -> list[str]:
    """The groups that the edges make, in words: "<0.5", "0.5-1.0", ">1.0".

    The first middle group includes both of its edges, as the paper's does; a further one begins
    above the edge that it shares.

    Raises:
      PredictionsError: no edge, or edges that are not positive and rising.
    """
    edges = [float(edge) for edge in edges_cm]
    rising = all(low < high for low, high in zip([0.0, *edges], [*edges, math.inf], strict=True))
    if not edges or not rising:
        raise PredictionsError(
            f"size edges: found {', '.join(map(str, edges)) or 'none'}, expected positive, rising "
            "sizes in cm"
        )
    if len(edges) == 1:
        return [f"<{edges[0]}", f">={edges[0]}"]
    middle = [
        f"{'>' if number else ''}{low}-{high}" for number, (low, high) in enumerate(pairwise(edges))
    ]
    return [f"<{edges[0]}", *middle, f">{edges[-1]}"]


def _group_numbers(sizes: Float[np.ndarray, " known"], edges_cm: Sequence[float]) -> np.ndarray:
    # Rounded, or 1.1 cm would be a little more than 11 mm.
    edges = np.round(np.asarray(edges_cm, dtype=np.float64) * 10.0, 9)
    above = np.searchsorted(edges, sizes, side="left")
    # The lowest edge belongs to the group above it, every other edge to the group below it.
    return np.where(sizes == edges[0], 1, above)
