"""Networks that are not fine-tuned: an L2 logistic regression on frozen pooled features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thyrojax.config import Config
from thyrojax.data import stream
from thyrojax.data.dataset import Dataset
from thyrojax.data.splits import Parts
from thyrojax.features import load_network, pooled_features
from thyrojax.shapes import Float, Int

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

# What the features of a nodule depend on.
_FIELDS = ("weights", "input_size", "crop_shape", "border", "margin_unit")
_kept: dict[tuple[object, ...], Float[np.ndarray, "n features"]] = {}


def frozen_scores(
    dataset: Dataset, parts: Parts, config: Config, margin: int
) -> dict[str, np.ndarray]:
    """Scores of the validation and test parts by a regression on features of the training part.

    Trained and scored at one margin, without augmentation; the folds of one set share the features.
    """
    features = frozen_features(dataset, config, margin)
    labels = np.asarray([record.label for record in dataset.records])
    regression = fit_regression(features[parts["train"]], labels[parts["train"]])
    return {
        part: regression.predict_proba(features[parts[part]])[:, 1]
        for part in ("validation", "test")
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
    dataset: Dataset, config: Config, margin: int
) -> Float[np.ndarray, "n features"]:
    """Pooled features of every nodule's crop, computed once in a process."""
    key = (dataset.fingerprint, margin, *(getattr(config, name) for name in _FIELDS))
    if key not in _kept:
        network = load_network(config.weights, config.input_size, channels=1)
        rows = np.arange(len(dataset), dtype=np.int32)
        # In pieces: all crops at once would not fit in memory at larger sizes.
        _kept[key] = np.concatenate(
            [
                pooled_features(*network, batch["image"][batch["mask"]])
                for batch in stream.evaluation_batches(
                    dataset, rows, config, margin, batch_size=256
                )
            ]
        )
    return _kept[key]
