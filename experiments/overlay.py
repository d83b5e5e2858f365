"""Does burnt-in text explain that DDTI gets easier with a wider margin?

    thyrojax data build ddti --from DDTI --out data/ddti
    thyrojax data build ddti --from DDTI --out data/ddti_unmasked --no-mask-overlay
    python -m experiments.overlay --masked data/ddti --unmasked data/ddti_unmasked

Logistic regression on frozen pooled ImageNet features, 5-fold by patient, five draws of the folds,
with and without what lies outside the scan sector. Cost: 5 minutes on 2 CPU cores. Figures:
experiments/README.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.ddti import config as ddti
from thyrojax.analysis.roc import auc
from thyrojax.config import Config
from thyrojax.data import splits
from thyrojax.data.dataset import Dataset, open_dataset
from thyrojax.study.frozen import fit_regression, frozen_features

DRAWS = 5


def main() -> None:
    """Prints a Markdown table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(prog="overlay", description=__doc__.splitlines()[0])
    parser.add_argument("--masked", type=Path, required=True)
    parser.add_argument("--unmasked", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[160, 299])
    parser.add_argument("--margins", type=int, nargs="+", default=[50, 100])
    args = parser.parse_args()
    print("| input size | margin | masked: AUC, mean (range) | not masked |\n|---|---|---|---|")
    for size in args.sizes:
        for margin in args.margins:
            config = replace(ddti, input_size=size, margin_eval=margin)
            cells = [
                pooled_areas(open_dataset(folder, cache_mb=config.cache_mb), config)
                for folder in (args.masked, args.unmasked)
            ]
            print(f"| {size} | {margin} | {cells[0]} | {cells[1]} |", flush=True)


def pooled_areas(dataset: Dataset, config: Config) -> str:
    """Mean and range, over draws of the folds, of the AUC of the pooled test parts."""
    labels = np.asarray([record.label for record in dataset.records])
    features = frozen_features(dataset, config, config.margin_eval)
    areas = []
    for seed in range(DRAWS):
        scores = np.zeros(len(labels))
        for fold in range(config.folds):
            drawn = replace(config, seed=seed, fold=fold)
            parts = splits.draw_split(dataset.records, drawn, dataset.near_duplicates)
            known = np.concatenate([parts["train"], parts["validation"]])
            regression = fit_regression(features[known], labels[known])
            scores[parts["test"]] = regression.predict_proba(features[parts["test"]])[:, 1]
        areas.append(auc(labels, scores))
    return f"{np.mean(areas):.3f} ({min(areas):.3f} to {max(areas):.3f})"


if __name__ == "__main__":
    main()
