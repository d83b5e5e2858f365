"""`thyrojax data view` and `thyrojax data stats`: look at built sets, or sources as they lie."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from thyrojax.cli_source import (
    add_source_options,
    refuse_input_as_output,
    refuse_source_options,
    source_options,
)
from thyrojax.config import Border, CropShape, MarginUnit
from thyrojax.data.sources import KINDS

if TYPE_CHECKING:
    from thyrojax.data.looking import LookedAt


def _open(args: argparse.Namespace, limit: int | None = None) -> LookedAt:
    """The built set in the folder SET, or the source of that name as it lies at --from."""
    from thyrojax.data import looking

    name = str(args.set)
    if name in KINDS and (args.from_path is not None or not Path(name).is_dir()):
        return looking.open_source(name, args.from_path, limit, **source_options(args, name))
    refuse_source_options(args)
    return looking.open_set(Path(name))


def _view(args: argparse.Namespace) -> None:
    from thyrojax.data.sheet import Cuts, write_sheet

    cuts = Cuts(tuple(args.margins), tuple(args.shapes), args.border, args.margin_unit)
    refuse_input_as_output(args, "--out", args.out)
    looked = _open(args, args.limit)
    quiet = args.quiet
    say = (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))
    folder = write_sheet(looked, args.out, cuts, args.limit, say)
    beside = f", pictures in {folder}" if folder else ""
    print(f"{args.out}: {len(looked.entries[: args.limit])} nodules{beside}")


def _stats(args: argparse.Namespace) -> None:
    from thyrojax.data.stats import compute_statistics
    from thyrojax.data.stats_tables import format_statistics, write_tables

    sets = [_open(args)]
    if args.other is not None:
        from thyrojax.data.looking import open_set

        sets.append(open_set(args.other))
    statistics = compute_statistics(sets, args.split, args.margins)
    if args.out is not None:
        from thyrojax.data.stats_figures import draw_statistics, write_figures

        drawn = draw_statistics(statistics)
        write_tables(args.out, statistics)
        write_figures(args.out / "figures", drawn)
    print(format_statistics(statistics), end="")


def add_view(actions: Any, add: Callable[..., Any]) -> None:
    """Adds the action `view`; `add` is how the command line adds one (`cli._add`)."""
    view = add(
        actions,
        "view",
        _view,
        "Write a page to browse a set: frames, boxes, scan sectors, windows.",
        "thyrojax data view data/phantom --out sheet.html --margins 0 50 100",
    )
    view.add_argument("set", metavar="SET", help="a built set, or a SOURCE with --from PATH")
    view.add_argument("--out", type=Path, required=True, metavar="FILE.html")
    view.add_argument(
        "--margins", type=int, nargs="+", default=(0, 50, 100), metavar="N", help="0 50 100"
    )
    view.add_argument("--margin-unit", choices=get_args(MarginUnit), default="px")
    shapes = [shape for shape in get_args(CropShape) if shape != "frame"]  # it is shown anyway
    view.add_argument("--shapes", nargs="+", choices=shapes, default=shapes, metavar="SHAPE")
    view.add_argument(
        "--border",
        choices=get_args(Border),
        default="constant",
        help="what windows show outside the frame",
    )
    view.add_argument("--limit", type=int, metavar="N", help="the first N nodules only")
    add_source_options(view)


def add_stats(actions: Any, add: Callable[..., Any]) -> None:
    """Adds the action `stats`; `add` is how the command line adds one (`cli._add`)."""
    stats = add(
        actions,
        "stats",
        _stats,
        "Count what a set is made of, by label and part, or compare two sets.",
        "thyrojax data stats data/phantom --split runs/demo/split.csv --out statistics",
    )
    stats.add_argument("set", metavar="SET", help="a built set, or a SOURCE with --from PATH")
    stats.add_argument("other", type=Path, nargs="?", metavar="SET2", help="a built set")
    stats.add_argument("--out", type=Path, metavar="FOLDER", help="tables as CSV, and figures/")
    stats.add_argument("--split", type=Path, metavar="CSV", help="a split.csv: count by part")
    stats.add_argument(
        "--margins",
        type=int,
        nargs="+",
        default=(0, 25, 50, 75, 100),
        metavar="PX",
        help="of the windows counted: 0 25 50 75 100",
    )
    add_source_options(stats)
