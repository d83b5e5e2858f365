"""`thyrojax ensemble`: parses and prints, decides nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

AddCommand = Callable[..., argparse.ArgumentParser]


def _ensemble(args: argparse.Namespace) -> None:
    from thyrojax.cli_analyse import summary_lines
    from thyrojax.ensemble import ensemble

    figures = ensemble(args.runs, args.out, args.split)
    print(f"{figures['split']}: {figures['n']} nodules of {figures['n_patients']} patients")
    for run, auc in zip(figures["runs"], figures["aucs"], strict=True):
        print(f"auc alone    {auc:.3f}  {run}")
    for line in summary_lines(figures):
        print(line)


def add_ensemble(commands: Any, add: AddCommand) -> None:
    """Adds the command to the parser's `commands`; `add` is the CLI's own `_add`."""
    parser = add(
        commands,
        "ensemble",
        _ensemble,
        "Average the scores of evaluated runs on one split: predictions and figures of the mean.",
        "thyrojax ensemble runs/seed0 runs/seed1 runs/seed2 --out runs/mean",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--split", default="test", metavar="PART", help="train, val or test")
