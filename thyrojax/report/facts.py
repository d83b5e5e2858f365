"""What the files of a run and of an analysis show, as the checklists and the model card use it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thyrojax.analysis.predictions import Predictions
from thyrojax.analysis.study import Study
from thyrojax.analysis.table import Table
from thyrojax.report.run_folder import PARTS, Run, SplitRow
from thyrojax.vocabulary import PREDICTION_FEATURES

# Columns of predictions.csv that describe a nodule and that a reader may look for.
_STATED = ("size_mm", *PREDICTION_FEATURES, "reader_label")
# What `thyrojax evaluate` writes into metrics.json and an analysis cannot know.
_OF_THE_RUN = ("step", "margin")


class Part(NamedTuple):
    """One part of the data, in counts; "" in sizes and grades is "not stated"."""

    n: int
    n_patients: int
    by_label: tuple[int, int]
    sizes: Counter[str]
    positive_sizes: Counter[str]
    grades: Counter[str]
    positive_grades: Counter[str]


@dataclass(frozen=True, eq=False)
class Facts:
    """All that is known. What no file shows is None, or empty.

    Attributes:
      unit: what is counted, in the singular: "nodule", "lesion", or "case" where nobody says.
      parts: by name, in their order.
      shared_patients: patients of split.csv that stand in more than one part.
      config, weights, versions: config.json, weights.json and versions.json of the run.
      metrics: of the analysis where there is one, else of the run.
      stated: of each describing column of the test predictions, how many cases have a value.
      models: names of the models that the analysis compares, the lead first.
      tables: of the analysis, by name.
      recalibrated: whether the analysis had validation cases to fit a recalibration on.
      n_examples, n_maps: cases shown in the report's gallery, and those with a Grad-CAM map.
      map_layer: the layer that the maps are of.
      explained: method of explanation, median share of a map inside the box, median share of the
        box in the input, and of how many cases of the test part.
      sanity: rank correlation of the maps with those of a network made wholly random.
      parameters: trainable numbers of the network, from architecture.json.
      validations: the run's log lines of validations.
    """

    source: str | None = None
    subject: str | None = None
    unit: str = "case"
    label_names: tuple[str, str] | None = None
    n_images: int | None = None
    n_cases: int | None = None
    n_patients: int | None = None
    exclusions: dict[str, int] | None = None
    mask_overlay: bool | None = None
    fingerprint: str | None = None
    parts: dict[str, Part] | None = None
    shared_patients: int | None = None
    config: dict[str, Any] | None = None
    weights: dict[str, Any] | None = None
    versions: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    stated: dict[str, int] | None = None
    validations: tuple[dict[str, Any], ...] = ()
    models: tuple[str, ...] = ()
    tables: dict[str, Table] = field(default_factory=dict)
    recalibrated: bool = False
    warnings: tuple[str, ...] = ()
    n_examples: int = 0
    n_maps: int = 0
    map_layer: str = ""
    explained: tuple[str, float, float, int] | None = None
    sanity: float | None = None
    parameters: int | None = None

    @property
    def reported(self) -> str:
        """What the figures are of; an analysis alone does not know of parts."""
        return "test part" if self.parts else "set analysed"

    @property
    def by_image(self) -> bool:
        """Whether images were dealt to the parts, whatever their patient."""
        return (self.config or {}).get("split_by") == "image"

    @property
    def whole_frame(self) -> bool:
        """Whether the network sees whole frames, and no box or margin."""
        return (self.config or {}).get("crop_shape") == "frame"

    def settings(self, *names: str) -> tuple[Any, ...] | None:
        """Values of config.json; None where one of them is not recorded."""
        if self.config is None or any(self.config.get(name) is None for name in names):
            return None
        return tuple(self.config[name] for name in names)

    def figure(self, name: str) -> float | None:
        """A number of the metrics; None where it is missing or not defined."""
        value = (self.metrics or {}).get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if np.isfinite(value) else None

    def count(self, name: str) -> int | None:
        """A whole number of the metrics."""
        value = self.figure(name)
        return None if value is None else round(value)

    def interval(self, name: str) -> tuple[float, float, bool] | None:
        """Low and high end, and whether it is the one that allows for several cases a patient."""
        for key, clustered in ((f"{name}_ci_cluster", True), (f"{name}_ci", False)):
            ends = (self.metrics or {}).get(key)
            if isinstance(ends, list | tuple) and len(ends) == 2 and None not in ends:
                return float(ends[0]), float(ends[1]), clustered
        return None


def _of_bad_records(run: Run | None) -> tuple[str, ...]:
    n = len(run.bad_records) if run else 0
    return (f"training went without {n} of its images, which could not be read",) if n else ()


def collect_facts(run: Run | None = None, study: Study | None = None) -> Facts:
    """Facts of a run, of an analysis, or of a run and the analysis of its predictions."""
    known: dict[str, Any] = {}
    test: Predictions | None = None
    if run is not None:
        data = run.data
        test = run.test
        known |= {
            "source": data.source,
            "subject": data.subject,
            "unit": data.unit,
            "label_names": data.label_names,
            "n_images": data.n_images,
            "n_cases": data.n_nodules,
            "n_patients": data.n_patients,
            "exclusions": data.exclusions,
            "mask_overlay": _mask_overlay(run.folder),
            "fingerprint": data.fingerprint,
            "parts": {
                part: _count([row for row in run.split if row.part == part]) for part in PARTS
            },
            "shared_patients": _shared_patients(run.split),
            "config": run.config,
            "weights": run.weights,
            "versions": run.versions,
            "metrics": run.metrics,
            "validations": run.validation,
            "parameters": None if run.architecture is None else run.architecture.parameters,
            **_explanations(run),
        }
    if study is not None:
        test = study.predictions[study.lead]
        known |= {
            "metrics": {
                **{name: run.metrics[name] for name in _OF_THE_RUN if run and name in run.metrics},
                **study.metrics,
                "cutoff": study.cutoff.value,
                "cutoff_from": study.cutoff.source,
            },
            "label_names": known.get("label_names", study.label_names),
            "models": tuple(study.predictions),
            "tables": study.tables,
            "recalibrated": study.validation is not None and "calibration_summary" in study.tables,
            "warnings": (*_of_bad_records(run), *study.warnings),
        }
    if test is not None:
        known["stated"] = {
            name: sum(value != "" for value in test.columns[name])
            for name in _STATED
            if name in test.columns
        }
    return Facts(**known)


def _explanations(run: Run) -> dict[str, Any]:
    mapped = [example for example in run.examples if example.map is not None]
    pairs = [
        (line.mass_in_box, line.box_share)
        for line in run.explanations
        if line.mass_in_box is not None
    ]
    explained = None
    if pairs:
        inside, share = np.median(np.array(pairs, dtype=np.float64), axis=0)
        explained = (run.explanations[0].method, float(inside), float(share), len(pairs))
    return {
        "n_examples": len(run.examples),
        "n_maps": len(mapped),
        "map_layer": mapped[0].map_layer if mapped else "",
        "explained": explained,
        "sanity": run.sanity[-1].rank_correlation if run.sanity else None,
    }


def _mask_overlay(folder: Path) -> bool | None:
    """Whether the frames were blanked outside the scan sector, where data.json says so."""
    try:
        value = json.loads((folder / "data.json").read_text(encoding="utf-8")).get("mask_overlay")
    except (OSError, ValueError):
        return None
    return value if isinstance(value, bool) else None


def _count(rows: list[SplitRow]) -> Part:
    positive = [row for row in rows if row.label == 1]
    return Part(
        n=len(rows),
        n_patients=len({row.patient_id for row in rows}),
        by_label=(len(rows) - len(positive), len(positive)),
        sizes=Counter(row.size_group for row in rows),
        positive_sizes=Counter(row.size_group for row in positive),
        grades=Counter(row.tirads for row in rows),
        positive_grades=Counter(row.tirads for row in positive),
    )


def _shared_patients(split: tuple[SplitRow, ...]) -> int:
    parts: dict[str, set[str]] = {}
    for row in split:
        parts.setdefault(row.patient_id, set()).add(row.part)
    return sum(len(found) > 1 for found in parts.values())
