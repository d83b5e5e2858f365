"""What a study of one model, or of several compared, consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from thyrojax.analysis.cutoff import Cutoff
from thyrojax.analysis.predictions import Predictions
from thyrojax.analysis.table import Table


@dataclass(frozen=True, eq=False)
class Study:
    """All that the analysis found, for the files and the report.

    Attributes:
      lead: the name of the model that the tables are of (the first one given).
      predictions: each model's cases by name, the lead first.
      validation: the lead's validation cases, where the cutoff and the recalibration come from.
      cutoff: the lead's; `source` says in words where it is from.
      label_names: of class 0 and class 1.
      metrics: the content of metrics.json.
      tables: by name, in the report's order.
      warnings: sentences that must stand beside the results (optimistic cutoff, small groups, ...).
    """

    lead: str
    predictions: dict[str, Predictions]
    validation: Predictions | None
    cutoff: Cutoff
    label_names: tuple[str, str]
    metrics: dict[str, Any]
    tables: dict[str, Table]
    warnings: tuple[str, ...]
