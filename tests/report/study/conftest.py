"""A study that was never run: every table with made-up figures in the columns that it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thyrojax.analysis.cutoff import Cutoff
from thyrojax.analysis.operating_point import summarise, wilson_interval
from thyrojax.analysis.predictions import Predictions
from thyrojax.analysis.roc import roc_curve
from thyrojax.analysis.study import Study
from thyrojax.analysis.table import Table, table_of
from thyrojax.report.study_page import write_study

NAMES = ("margin 0", "margin 25", "margin 50", "margin 75", "margin 100")
LEAD = "margin 50"
PROVENANCE: dict[str, Any] = {
    "command": "thyrojax analyse m50=test.csv --out study --cutoff-from validation.csv",
    "seed": 0,
    "resamples": 2000,
    "versions": {"thyrojax": "0.1", "numpy": "2.5", "python": "3.13"},
    "files": [{"name": LEAD, "path": "test.csv", "sha256": "0f" * 32}],
}


def made_up_cases(strength: float, n: int = 399, images_per_patient: int = 2) -> Predictions:
    """Two normal classes, `strength` apart; a patient has so many images one after another."""
    random = np.random.default_rng(7)
    labels = (np.arange(n) // images_per_patient) % 2
    scores = 1.0 / (1.0 + np.exp(-random.normal(strength * (labels - 0.5), 1.0)))
    patients = tuple(f"p{index // images_per_patient}" for index in range(n))
    return Predictions(tuple(f"i{index}" for index in range(n)), patients, labels, scores)


def interval_of(name: str, value: float | None, half: float = 0.05) -> dict[str, float | None]:
    """NAME, NAME_low, NAME_high."""
    if value is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {
        name: value,
        f"{name}_low": max(0.0, value - half),
        f"{name}_high": min(1.0, value + half),
    }


def one_model(images_per_patient: int = 1) -> Study:
    """The least that a study has: one model, no features, no sizes, no reader, no validation."""
    cases = made_up_cases(3.0, images_per_patient=images_per_patient)
    return Study(
        lead=LEAD,
        predictions={LEAD: cases},
        validation=None,
        cutoff=Cutoff(0.5, "0.5, as no validation cases were given"),
        label_names=("benign", "malignant"),
        metrics=_metrics(cases),
        tables={table.name: table for table in (_operating_point(cases), _roc(cases), _auc())},
        warnings=("The predictions have no column size_mm: no results by size.",),
    )


def whole_study(names: Sequence[str] = NAMES, lead: str = LEAD, words: str = "") -> Study:
    """A study with everything; `words` are put into every text that comes from files."""
    models = {name: made_up_cases(2.0 + 0.5 * math.sin(place)) for place, name in enumerate(names)}
    cases = models[lead]
    tables = [
        _operating_point(cases),
        _cutoffs(),
        _roc(cases),
        _auc(lead),
        _roc_models(models),
        _precision_recall(cases),
        _comparison(names),
        _size_groups(),
        _patient_level(),
        _features(words),
        _odds_ratios(words),
        _readers(words),
        _calibration(),
        _calibration_summary(),
        _decision_curve(),
        _sample_size(),
    ]
    metrics = _metrics(cases) | {"cutoff_from": f"Youden on the validation part {words}".strip()}
    return Study(
        lead=lead,
        predictions=models,
        validation=made_up_cases(2.0),
        cutoff=Cutoff(0.5, metrics["cutoff_from"]),
        label_names=("benign", "malignant"),
        metrics=metrics,
        tables={table.name: table for table in tables},
        warnings=(
            "The predictions have no follow-up.",
            f"Nodules below 0.5 cm: only 12 malignant ones, too few to say anything. {words}",
            "The cutoff was chosen on 80 cases.",
        ),
    )


def _metrics(cases: Predictions) -> dict[str, Any]:
    metrics = summarise(cases.labels, cases.scores, 0.5, "0.5, by default", cases.patient_ids)
    if metrics["n_patients"] < metrics["n"]:
        for name in ("auc", "accuracy", "sensitivity", "specificity"):
            low, high = metrics[f"{name}_ci"]
            metrics[f"{name}_ci_cluster"] = [low - 0.013, min(1.0, high + 0.011)]
    return metrics


def _operating_point(cases: Predictions) -> Table:
    records = []
    for metric, value in (
        ("accuracy", 0.905),
        ("sensitivity", 0.933),
        ("specificity", 0.874),
        ("LR-", 0.077),
        ("MCC", None),
    ):
        low, high = (None, None) if value is None else (value * 0.95, value * 1.03)
        records.append(
            {
                "metric": metric, "value": value, "ci_low": low, "ci_high": high, "n": len(cases),
                "ci_method": "Wilson", "cluster_ci_low": low, "cluster_ci_high": high,
                "note": "" if value else "no case was called positive",
            }
        )  # fmt: skip
    return table_of("operating_point", "Performance at the cutoff.", records, ("95 % intervals.",))


def _cutoffs() -> Table:
    records = [
        {
            "rule": rule, "cutoff": cutoff, "sensitivity": 0.9, "specificity": 0.8,
            "chosen_on": "validation part (n = 399)", "sensitivity_low": 0.85,
            "sensitivity_high": 0.94, "specificity_low": 0.74, "specificity_high": 0.85, "note": "",
        }
        for rule, cutoff in (("youden", 0.431), ("closest", 0.44), ("sensitivity=0.95", 0.21))
    ]  # fmt: skip
    return table_of("cutoffs", "Rules for the cutoff.", records)


def _roc(cases: Predictions) -> Table:
    curve = roc_curve(cases.labels, cases.scores)
    records = [
        {
            "cutoff": float(cutoff), "fpr": float(x), "tpr": float(y),
            "tpr_low": max(0.0, float(y) - 0.06), "tpr_high": min(1.0, float(y) + 0.04),
        }
        for cutoff, x, y in zip(
            curve.cutoffs, curve.false_positive_rate, curve.true_positive_rate, strict=True
        )
    ]  # fmt: skip
    return table_of("roc", "ROC curve.", records)


def _auc(name: str = LEAD) -> Table:
    records = [
        {
            "name": name, "measure": measure, "value": value, "ci_low": value - 0.02,
            "ci_high": value + 0.02, "method": method, "n_positive": 200, "n_negative": 199,
            "note": "",
        }
        for measure, value, method in (
            ("AUC", 0.956, "DeLong, logit"),
            ("AUC", 0.956, "cluster bootstrap, percentile"),
            ("average precision", 0.951, "cluster bootstrap, percentile"),
        )
    ]  # fmt: skip
    return table_of("auc", "Areas under the curves.", records)


def _roc_models(models: dict[str, Predictions]) -> Table:
    records: list[dict[str, Any]] = []
    for name, cases in models.items():
        curve = roc_curve(cases.labels, cases.scores)
        records += [
            {"name": name, "fpr": float(x), "tpr": float(y)}
            for x, y in zip(curve.false_positive_rate, curve.true_positive_rate, strict=True)
        ]
    return table_of("roc_models", "ROC curves of all models.", records)


def _precision_recall(cases: Predictions) -> Table:
    order = np.argsort(-cases.scores, kind="stable")
    true = np.cumsum(cases.labels[order])
    records = [
        {"cutoff": float(score), "recall": float(hit / true[-1]), "precision": float(hit / called)}
        for called, (score, hit) in enumerate(zip(cases.scores[order], true, strict=True), start=1)
    ]
    return table_of("precision_recall", "Precision and recall.", records)


def _comparison(names: Sequence[str]) -> Table:
    records: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        values = {
            "accuracy": 0.842 + 0.01 * place, "sensitivity": 0.88 + 0.01 * place,
            "specificity": 0.8 + 0.02 * place, "auc": 0.921 + 0.008 * place,
        }  # fmt: skip
        record: dict[str, Any] = {"name": name, "n": 399, "n_patients": 200}
        for measure, value in values.items():
            record |= interval_of(measure, value, 0.03)
        best = place == len(names) - 1
        record["best"] = "accuracy, sensitivity, specificity, AUC" if best else ""
        for measure in values:
            ends = (0.0, None, None) if best else (-0.02, -0.05, 0.01)
            columns = (f"{measure}_difference{end}" for end in ("", "_low", "_high"))
            record |= dict(zip(columns, ends, strict=True))
            record |= {f"p_{measure}": None if best else 0.01, f"p_{measure}_holm": None}
        records.append(record | {"note": "best row, nothing to test"})
    return table_of("comparison", "Models on the same cases.", records)


def _size_groups() -> Table:
    records: list[dict[str, Any]] = []
    for group, n, sensitivity, specificity, auc in (
        ("<0.5", 59, 1.0, 0.814, 0.962),
        ("0.5-1.0", 140, 0.944, 0.939, 0.971),
        (">1.0", 200, 0.888, 0.877, 0.943),
        ("not stated", 0, None, None, None),
        ("all", 399, 0.933, 0.874, 0.956),
    ):
        record: dict[str, Any] = {
            "group": group, "n": n, "n_positive": n // 2, "n_negative": n - n // 2,
        }  # fmt: skip
        for name, value in (
            ("sensitivity", sensitivity),
            ("specificity", specificity),
            ("auc", auc),
        ):
            record |= interval_of(name, value)
        records.append(record | {"note": "no case in this group" if n == 0 else ""})
    return table_of("size_groups", "Performance by size.", records)


def _patient_level() -> Table:
    record: dict[str, Any] = {"rule": "mean", "n": 200, "n_positive": 100, "n_negative": 100}
    for name in ("accuracy", "sensitivity", "specificity", "auc"):
        record |= interval_of(name, 0.93)
    return table_of("patient_level", "Performance by patient.", [record | {"note": ""}])


def _features(words: str) -> Table:
    records: list[dict[str, Any]] = []
    for label in (1, 0):
        for feature, categories in (
            ("margin_feature", (("smooth", 13, 4), ("irregular", 24, 0), ("ill_defined", 104, 5))),
            ("shape", (("wider", 102, 12), ("taller", 93, 2), ("round" + words, 0, 0))),
        ):
            for category, right, wrong in categories:
                records.append(
                    {
                        "feature": feature, "category": category, "label": label,
                        "n": right + wrong, "right": right, "wrong": wrong,
                        "p_chi2": 0.024, "p_exact": 0.033, "expected_min": 1.02,
                        "small_expected": True, "p_chi2_holm": 0.048, "p_chi2_bh": 0.03,
                        "p_exact_holm": 0.066, "p_exact_bh": 0.04, "note": "",
                    }
                )  # fmt: skip
    return table_of("features", "Right and wrong by feature.", records, ("Holm over 4 tests.",))


def _odds_ratios(words: str) -> Table:
    records: list[dict[str, Any]] = []
    for model in ("univariate", "multivariate"):
        for variable, ratio, low, high, note in (
            ("calcification micro", 0.254, 0.076, 0.847, ""),
            ("margin irregular", 0.0, None, None, "complete separation: no error among them"),
            ("margin ETE", 1.41, 0.31, 260.0, ""),
            ("shape (taller)" + words, 0.243, 0.073, 0.81, ""),
        ):
            separated = ratio == 0.0
            records.append(
                {
                    "variable": variable, "model": model, "odds_ratio": ratio, "ci_low": low,
                    "ci_high": high, "p": None if separated else 0.026,
                    "profile_low": None if separated else low,
                    "profile_high": high, "firth_odds_ratio": 0.11 if separated else ratio * 1.1,
                    "firth_low": 0.001, "firth_high": 0.9, "firth_p": 0.04, "n": 277, "errors": 33,
                    "note": note,
                }
            )  # fmt: skip
    return table_of("odds_ratios", "Misdiagnosis by feature.", records)


def _readers(words: str) -> Table:
    records: list[dict[str, Any]] = []
    for measure, reader, model in (
        ("sensitivity", 0.85, 0.93),
        ("specificity", 0.98, 0.87),
        ("kappa of reader and model", None, 0.7),
    ):
        difference = None if reader is None else model - reader
        row: dict[str, Any] = {"measure": measure}
        row |= interval_of("reader", reader) | interval_of("model", model)
        row |= interval_of("difference", difference)
        row |= {"p": None if reader is None else 0.012, "n": 380}
        records.append(row | {"note": f"one figure for both {words}" if reader is None else ""})
    return table_of("readers", f"Reader (reader_label{words}) and model.", records)


def _calibration() -> Table:
    records = []
    for place in range(10):
        low, high = wilson_interval(4 * place + 1, 40) or (0.0, 1.0)
        records.append(
            {
                "bin": place + 1, "mean_score": (place + 0.5) / 10,
                "observed": (4 * place + 1) / 40,
                "ci_low": low, "ci_high": high, "n": 40, "positives": 4 * place + 1, "note": "",
            }
        )  # fmt: skip
    return table_of("calibration", "Reliability.", records)


def _calibration_summary() -> Table:
    records = []
    for method, brier in (("as given", 0.08), ("temperature", 0.075), ("isotonic", 0.076)):
        row: dict[str, Any] = {"method": method, "brier": brier, "log_loss": 0.3, "ece": 0.02}
        row |= {"slope": 0.9, "slope_low": 0.8, "slope_high": 1.1}
        row |= {"intercept": -0.1, "intercept_low": -0.3, "intercept_high": 0.1}
        records.append(row | {"spiegelhalter_p": 0.0004, "parameter": 1.2, "note": ""})
    return table_of("calibration_summary", "Calibration before and after.", records)


def _decision_curve() -> Table:
    records = []
    for percent in range(1, 100):
        threshold = percent / 100
        model = 0.5 - 0.3 * threshold
        treat_all = 0.5 - 0.5 * threshold / (1 - threshold)
        row = {"threshold": threshold, "model": model, "treat_all": treat_all, "treat_none": 0.0}
        records.append(row | {"model_low": model - 0.04, "model_high": model + 0.04, "note": ""})
    return table_of("decision_curve", "Net benefit.", records)


def _sample_size() -> Table:
    records = [
        {
            "measure": measure, "question": question, "n": n, "value": 0.933, "ci_low": 0.9,
            "ci_high": 0.96, "method": "Wilson", "note": "",
        }
        for measure in ("sensitivity", "specificity")
        for question, n in (
            ("interval at 1 n", 399), ("interval at 2 n", 798), ("n for a half width of 0.05", 1670)
        )
    ]  # fmt: skip
    return table_of("sample_size", "Expected intervals.", records)


@pytest.fixture
def make_whole_study() -> Callable[..., Study]:
    return whole_study


@pytest.fixture
def make_small_study() -> Callable[..., Study]:
    return one_model


@pytest.fixture(scope="session")
def study() -> Study:
    return whole_study()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Path:
    """The folder of a whole study, for tests that only look."""
    folder = tmp_path_factory.mktemp("study") / "out"
    write_study(folder, study, PROVENANCE)
    return folder
