"""Networks that are not fine-tuned: an L2 logistic regression on frozen pooled features."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from thyrojax.config import Config
from thyrojax.data import stream
from thyrojax.data.dataset import Dataset
from thyrojax.data.splits import Parts
from thyrojax.features import load_network, pooled_features
from thyrojax.shapes import Float, Int
from thyrojax.study.changes import changed_crop
from thyrojax.study.plan import Arm, Change

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

# What the features of a nodule depend on.
_FIELDS = ("weights", "input_size", "crop_shape", "border", "margin_unit")
_OF_PROBE = (*_FIELDS, "margin_eval", "split_by", "train_share", "inner_folds", "inner_fold")
_PIECE = 256  # crops
_kept: dict[tuple[object, ...], Float[np.ndarray, "n features"]] = {}


def frozen_scores(
    dataset: Dataset, parts: Parts, config: Config, margin: int, change: Change | None = None
) -> dict[str, np.ndarray]:
    """Scores of the validation and test parts by a regression on features of the training part.

    Trained and scored at one margin, without augmentation; the folds of one set share the features.
    A change is of the test part alone.
    """
    features = frozen_features(dataset, config, margin)
    labels = np.asarray([record.label for record in dataset.records])
    regression = fit_regression(features[parts["train"]], labels[parts["train"]])
    of_test = frozen_features(dataset, config, margin, change) if change else features
    return {
        "validation": regression.predict_proba(features[parts["validation"]])[:, 1],
        "test": regression.predict_proba(of_test[parts["test"]])[:, 1],
    }


def fit_regression(
    features: Float[np.ndarray, "n features"], labels: Int[np.ndarray, " n"]
) -> Pipeline:
    """L2 logistic regression, C = 1e-3, balanced classes, standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=1e-3, class_weight="balanced", max_iter=2000)
    return make_pipeline(StandardScaler(), regression).fit(features, labels)


def frozen_features(
    dataset: Dataset, config: Config, margin: int, change: Change | None = None
) -> Float[np.ndarray, "n features"]:
    """Pooled features of every nodule's crop, changed or not, computed once in a process."""
    key = (dataset.fingerprint, margin, change, *(getattr(config, name) for name in _FIELDS))
    if key not in _kept:
        network = load_network(config.weights, config.input_size, channels=1)
        crops = (
            _changed(dataset, config, margin, change) if change else _plain(dataset, config, margin)
        )
        _kept[key] = np.concatenate([pooled_features(*network, some) for some in crops])
    return _kept[key]


def _plain(dataset: Dataset, config: Config, margin: int) -> Iterator[np.ndarray]:
    """All crops in pieces: at once they would not fit in memory at larger sizes."""
    rows = np.arange(len(dataset), dtype=np.int32)
    for batch in stream.evaluation_batches(dataset, rows, config, margin, batch_size=_PIECE):
        yield batch["image"][batch["mask"]]


def _changed(dataset: Dataset, config: Config, margin: int, change: Change) -> Iterator[np.ndarray]:
    for start in range(0, len(dataset), _PIECE):
        rows = range(start, min(start + _PIECE, len(dataset)))
        yield np.stack([changed_crop(dataset, r, config, margin, change) for r in rows])[..., None]


def probes(arms: Sequence[Arm]) -> tuple[list[Arm], list[str]]:
    """The arms as regressions on frozen features, and a line for each that cannot be one.

    Those that differ from another in training alone would be the same; random weights have no
    features worth the name.
    """
    found: dict[tuple[object, ...], Arm] = {}
    left_out = []
    for arm in arms:
        told = {name: value for name, value in arm.changes.items() if name in _OF_PROBE}
        key = (arm.data, tuple(sorted(told.items())))
        if told.get("weights") == "none":
            left_out.append(f"{arm.label}: found random weights, expected trained ones")
        elif key in found:
            left_out.append(f"{arm.label}: differs from “{found[key].label}” in training alone")
        else:
            label = arm.probe_label or arm.label
            found[key] = dataclasses.replace(arm, method="frozen", label=label)
    return [*found.values()], left_out
