"""`thyrojax data`: look at sources and datasets, and build datasets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thyrojax.cli_data_view import add_stats, add_view
from thyrojax.cli_source import add_source_options, refuse_input_as_output, source_options
from thyrojax.config import Config
from thyrojax.data.sources import KINDS, SOURCES


def _check(args: argparse.Namespace) -> None:
    from thyrojax.data import check, check_frames
    from thyrojax.errors import ConfigError, DataFaults

    if not 0.0 <= args.near_duplicates <= 1.0:
        raise ConfigError(
            f"--near-duplicates: found {args.near_duplicates:g}, expected a number from 0 to 1"
        )
    if args.marks < 0:
        raise ConfigError(f"--marks: found {args.marks}, expected a whole number >= 0")
    refuse_input_as_output(args, "--csv", args.csv)
    try:
        data, table = check.check_source(
            args.source, args.from_path, **source_options(args, args.source)
        )
    except DataFaults as faults:
        if args.csv:
            check.write_csv(faults, args.csv)
        raise
    findings = check_frames.look(data, args.near_duplicates, args.marks)
    if args.csv:
        check.write_csv(data, args.csv, check_frames.rows(findings))
    print(table)
    print(check_frames.format_findings(findings), end="")


def _build(args: argparse.Namespace) -> None:
    from thyrojax.data.builder import build
    from thyrojax.data.sources import read_source

    mask = KINDS[args.source].mask_overlay if args.mask is None else args.mask
    data = read_source(args.source, args.from_path, **source_options(args, args.source))
    build(
        data,
        args.out,
        mask,
        overwrite=args.overwrite,
        progress=not args.quiet and sys.stderr.isatty(),
        workers=args.workers,
        beam_runner=args.beam_runner,
        beam_options=args.beam_options,
    )
    patients = len({nodule.patient_id for nodule in data.nodules})
    print(f"{args.out}: {len(data.nodules)} nodules of {patients} patients")


def add_data(commands: Any, add: Callable[..., Any], parser_class: type) -> None:
    """Adds `data` with its actions; `add` is how the command line adds one (`cli._add`)."""
    data = commands.add_parser("data", help="look at and build datasets")
    actions = data.add_subparsers(required=True, metavar="ACTION", parser_class=parser_class)

    check = add(
        actions,
        "check",
        _check,
        "Count what a source holds and name all that it leaves out, or every fault.",
        "thyrojax data check csv --from nodules.csv --csv left_out.csv",
    )
    build = add(
        actions,
        "build",
        _build,
        "Write a source as a TFDS dataset.",
        "thyrojax data build phantom --out data/phantom",
    )
    for parser in (check, build):
        parser.add_argument("source", choices=SOURCES, metavar="SOURCE", help=", ".join(SOURCES))
        add_source_options(parser)
    check.add_argument("--csv", type=Path, metavar="FILE", help="exclusions, or faults, as CSV")
    check.add_argument(
        "--near-duplicates",
        type=float,
        default=Config.near_duplicates,
        metavar="X",
        help="list pairs of frames at least this alike (default: %(default)s; 0: do not look)",
    )
    check.add_argument(
        "--marks",
        type=int,
        default=300,
        metavar="N",
        help="search at most N frames for burnt-in text and calipers (default: %(default)s)",
    )
    build.add_argument("--out", type=Path, required=True, metavar="DIR")
    build.add_argument("--overwrite", action="store_true", help="replace a built set")
    build.add_argument(
        "--mask-overlay",
        dest="mask",
        action=argparse.BooleanOptionalAction,
        help="blank what lies outside the scan sector (default: for ddti and dicom)",
    )
    build.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes that write (default: 1)"
    )
    build.add_argument(
        "--beam-runner", metavar="NAME", help="write through Apache Beam, on this runner of it"
    )
    build.add_argument(
        "--beam-option",
        dest="beam_options",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of Beam's (may be repeated), as region=europe-west4",
    )
    add_view(actions, add)
    add_stats(actions, add)
