"""Does the ImageNet start help? Three answers to one question, k-fold by patient.

    python -m experiments.three_starts busbra --data data/busbra --workdir runs/busbra
    python -m experiments.three_starts ddti   --data data/ddti   --workdir runs/ddti

For every fold: (a) the preset fine-tuned from its weights, (b) the same from random weights, (c) an
L2 logistic regression on the frozen pooled features of the same weights, input size and margin. The
test parts of the folds are pooled: every nodule is scored once, by a network that saw no image of
its patient. Further options are fields of the configuration. What is finished is kept: run it again
to go on. Cost and figures: experiments/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thyrojax.analysis.predictions import Predictions, read_predictions, write_predictions
from thyrojax.analysis.roc import compare_auc, estimate_auc
from thyrojax.config import Config
from thyrojax.data import splits
from thyrojax.data.dataset import Dataset, open_dataset
from thyrojax.errors import ConfigError, ThyrojaxError
from thyrojax.evaluate import evaluate, predictions_table
from thyrojax.files import write_whole
from thyrojax.presets import load_preset, override
from thyrojax.study.frozen import frozen_scores
from thyrojax.train.loop import train

ARMS = {
    "pretrained": "fine-tuned from ImageNet weights",
    "frozen": "logistic regression on frozen ImageNet features",
    "random": "the same from random weights",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is missing of the study and prints its table."""
    parser = argparse.ArgumentParser(prog="three_starts", description=__doc__.splitlines()[0])
    parser.add_argument("preset")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS))
    args, rest = parser.parse_known_args(arguments)
    try:
        config = override(load_preset(args.preset), rest, "three_starts")
        if config.folds < 2:
            raise ConfigError(f"folds: found {config.folds}, expected at least 2")
        for arm in args.only:
            for fold in range(config.folds):
                run_fold(arm, dataclasses.replace(config, fold=fold), args.data, args.workdir)
        command = shlex.join(["python", "-m", "experiments.three_starts", *sys.argv[1:]])
        table = make_table(args.only, config, args.data, args.workdir, command)
    except ThyrojaxError as error:
        print(f"three_starts: {error}", file=sys.stderr)
        return 2
    write_whole(args.workdir / "table.md", table.encode())
    print(table)
    return 0


def run_fold(arm: str, config: Config, data: Path, workdir: Path) -> None:
    """Writes WORKDIR/ARM/foldN/predictions/test.csv, unless it is there."""
    run = workdir / arm / f"fold{config.fold}"
    out = run / "predictions" / "test.csv"
    if out.exists():
        return
    print(f"{arm}, fold {config.fold}", file=sys.stderr, flush=True)
    if arm == "frozen":
        dataset = open_dataset(data, cache_mb=config.cache_mb)
        write_predictions(out, frozen_predictions(dataset, config))
        return
    if arm == "random":
        config = dataclasses.replace(config, weights="none")
    train(config, data, run, say=lambda line: print(line, file=sys.stderr, flush=True))
    # The last state, not the best on validation: a fold's validation part is small, and choosing
    # among its noisy figures helps whichever arm is noisier.
    evaluate(run, data, "test", which="latest")


def frozen_predictions(dataset: Dataset, config: Config) -> Predictions:
    """Scores of a fold's test part by a regression on the features of its training part."""
    parts = splits.draw_split(dataset.records, config, dataset.near_duplicates)
    scores = frozen_scores(dataset, parts, config, config.margin_eval)["test"]
    return predictions_table(dataset, parts["test"], scores, "test", config.margin_eval)


def make_table(arms: Sequence[str], config: Config, data: Path, workdir: Path, command: str) -> str:
    """The study's table in Markdown: pooled AUC with DeLong's interval, and each fold's AUC."""
    info = open_dataset(data).info
    lines = [
        f"{info['n_nodules']} nodules ({info['subject']}) of {info['n_patients']} patients; "
        f"{info['label_names'][0]} against {info['label_names'][1]}; "
        f"{config.folds}-fold by patient, {config.input_size} px, margin {config.margin_eval} px.",
        "",
        f"    {command}",
        "",
        "| start | pooled AUC (95 % CI, DeLong) | difference from the first (paired) | by fold |",
        "|---|---|---|---|",
    ]
    first: np.ndarray | None = None
    for arm in arms:
        folds = [
            read_predictions(workdir / arm / f"fold{fold}" / "predictions" / "test.csv")
            for fold in range(config.folds)
        ]
        labels = np.concatenate([fold.labels for fold in folds])
        scores = np.concatenate([fold.scores for fold in folds])
        pooled = estimate_auc(labels, scores)
        by_fold = ", ".join(f"{estimate_auc(f.labels, f.scores).auc:.3f}" for f in folds)
        difference = ""
        if first is None:
            first = scores
        else:
            compared = compare_auc(labels, scores, first)
            difference = f"{compared.difference:+.3f} {_limits(compared.interval)}"
            difference += "" if compared.p is None else f", P = {compared.p:.2g}"
        area = f"{pooled.auc:.3f} {_limits(pooled.interval)}"
        lines.append(f"| {ARMS[arm]} | {area} | {difference} | {by_fold} |")
    return "\n".join(lines) + "\n"


def _limits(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"({interval[0]:.3f} to {interval[1]:.3f})"


if __name__ == "__main__":
    sys.exit(main())
