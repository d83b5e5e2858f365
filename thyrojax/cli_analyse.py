"""`thyrojax analyse`: parses and prints, decides nothing."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thyrojax.errors import ConfigError

AddCommand = Callable[..., argparse.ArgumentParser]

_EXAMPLE = """\
thyrojax analyse test.csv --out study --cutoff-from validation.csv

several files are compared on the same cases, the first one in full:
  thyrojax analyse m0=margin0.csv m50=margin50.csv --out study --cutoff 0.5

columns: image_id, patient_id, label (0 or 1), score (0 to 1); used where they are there: split,
size_mm, tirads, composition, echogenicity, calcification, margin_feature, shape, reader_label, and
any category. an exposure file has [[exposure]] entries with name, feature, exposed = [...],
reference = [...], multivariate = true or false."""


def _analyse(args: argparse.Namespace) -> None:
    from thyrojax.analysis.analyse import analyse_files
    from thyrojax.analysis.cutoff import parse_rule
    from thyrojax.analysis.options import Options
    from thyrojax.report.study_page import write_study

    options = Options(
        cutoff=args.cutoff,
        rule=None if args.cutoff_rule is None else parse_rule(args.cutoff_rule),
        optimistic=args.optimistic,
        prevalence=args.prevalence,
        interval=args.interval,
        edges_cm=tuple(args.edges),
        reader=args.reader,
        robust=args.robust,
        label_names=tuple(args.label_names),
        resamples=args.resamples,
        seed=args.seed,
    )
    say = (lambda line: None) if args.quiet else (lambda line: print(line, file=sys.stderr))
    study, provenance = analyse_files(
        _named(args.files), _named(args.cutoff_from, unnamed=""), options, args.exposures, say
    )
    command = shlex.join(["thyrojax", *args.arguments])
    page = write_study(args.out, study, {"command": command, **provenance})
    n, patients = study.metrics["n"], study.metrics["n_patients"]
    print(f"{study.lead}: {n} nodules of {patients} patients")
    for line in summary_lines(study.metrics):
        print(line)
    for warning in study.warnings:
        print(f"note         {warning}")
    print(page)


def _named(texts: list[str], unnamed: str | None = None) -> dict[str, Path]:
    """Files by name: NAME=FILE, or FILE alone, called `unnamed` or after its stem."""
    named: dict[str, Path] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        if equals and not Path(text).exists():
            path = Path(rest)
            name = name.strip()
            if not name or not rest:
                raise ConfigError(f"{text}: found no name or no file, expected NAME=FILE")
        else:
            path = Path(text)
            name = path.stem if unnamed is None else unnamed
        if name in named:
            raise ConfigError(f"{text}: found the name {name!r} twice, expected NAME=FILE for each")
        named[name] = path
    return named


def summary_lines(metrics: dict[str, Any]) -> list[str]:
    """The figures that a terminal shows, with the patients' intervals where there are any."""
    lines = []
    for name in ("auc", "accuracy", "sensitivity", "specificity"):
        value = metrics[name]
        if value is None:
            lines.append(f"{name:<12} -      {metrics[f'{name}_reason']}")
            continue
        clustered = metrics.get(f"{name}_ci_cluster")
        interval = clustered or metrics[f"{name}_ci"]
        by = " by patients" if clustered else ""
        limits = f"(95 % CI{by} {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        lines.append(f"{name:<12} {value:.3f}  {limits}")
    return [*lines, f"cutoff       {metrics['cutoff']:.4f} (from {metrics['cutoff_from']})"]


def add_analyse(commands: Any, add: AddCommand) -> None:
    """Adds the command to the parser's commands."""
    parser = add(
        commands,
        "analyse",
        _analyse,
        "The statistics of a study from predictions files: tables, figures, report.",
        _EXAMPLE,
    )
    parser.add_argument("files", nargs="+", metavar="[NAME=]P.csv")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    where = parser.add_argument_group("cutoff (default 0.5)").add_mutually_exclusive_group()
    where.add_argument("--cutoff", type=float, metavar="X", help="a fixed one, from 0 to 1")
    where.add_argument(
        "--cutoff-from",
        action="append",
        default=[],
        metavar="[NAME=]V.csv",
        help="chosen on these cases of other patients (may be repeated, by model)",
    )
    where.add_argument(
        "--optimistic", action="store_true", help="chosen on the reported cases, and said so"
    )
    parser.add_argument(
        "--cutoff-rule",
        metavar="RULE",
        help="youden (default), half, closest, sensitivity=S, specificity=S, cost=R (a miss costs R"
        " false alarms), cost=R@PREVALENCE",
    )
    parser.add_argument("--prevalence", type=float, metavar="P", help="for predictive values")
    parser.add_argument("--interval", choices=("wilson", "exact"), default="wilson")
    parser.add_argument(
        "--edges", type=float, nargs="+", default=(0.5, 1.0), metavar="CM", help="of size groups"
    )
    parser.add_argument("--exposures", type=Path, metavar="F.toml", help="default: Table 3's")
    parser.add_argument(
        "--robust", choices=("cluster", "gee"), help="odds ratios with errors by patient"
    )
    parser.add_argument("--reader", metavar="COLUMN", help="calls, 0 or 1")
    parser.add_argument(
        "--label-names", nargs=2, default=("benign", "malignant"), metavar=("NAME0", "NAME1")
    )
    parser.add_argument("--resamples", type=int, default=2000, metavar="N", help="of patients")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
