"""`thyrojax explain`: parses and prints, decides nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

METHODS = ("gradcam", "smoothgrad", "integrated-gradients")

AddCommand = Callable[..., argparse.ArgumentParser]


def _explain(args: argparse.Namespace) -> None:
    from thyrojax.explanations import explain

    found = explain(
        args.run,
        args.data,
        args.split,
        args.method,
        args.layer,
        args.checkpoint,
        args.margin,
        args.target,
        args.n,
        args.sanity,
        say=(lambda line: None)
        if args.quiet
        else lambda line: print(line, file=sys.stderr, flush=True),
    )
    layer = f" of {found['layer']}" if found["method"] == "gradcam" else ""
    print(
        f"{found['split']}: {found['n']} nodules, {found['method']}{layer}, "
        f"class {found['target']}, margin {found['margin']} {found['margin_unit']}"
    )
    _print_mass(found)
    if found["completeness_gap"] is not None:
        print(
            f"completeness  sums differ by {found['completeness_gap']:.2f} from "
            f"{found['logit_difference']:.2f}, the logit's difference to a black input (medians)"
        )
    for step in found["sanity"]:
        value = step["rank_correlation"]
        told = "-    " if value is None else f"{value:+.2f}"
        print(f"random from fc to {step['layer']:<14} rank correlation {told}  (n = {step['n']})")
    print(found["file"])


def _print_mass(found: dict[str, Any]) -> None:
    with_map = found["n"] - found["without_map"]
    if with_map:
        print(
            f"mass in box   median {found['mass_in_box']:.3f} "
            f"(chance {found['box_share']:.3f}; above it in {found['above_chance']} of {with_map})"
        )
    if found["without_map"]:
        print(f"without map   {found['without_map']} (0 everywhere)")


def add_explain(commands: Any, add: AddCommand) -> None:
    """Adds the command to the parser's `commands`; `add` is the CLI's own `_add`."""
    parser = add(
        commands,
        "explain",
        _explain,
        "Map what speaks for each nodule's call, and measure how much of it lies inside the box.",
        "thyrojax explain runs/demo --split test --sanity",
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, metavar="DIR", help="default: the run's own")
    parser.add_argument("--split", default="test", metavar="PART", help="train, val or test")
    parser.add_argument("--method", choices=METHODS, default="gradcam")
    parser.add_argument(
        "--layer", metavar="LAYER", help="of gradcam, mixed0 to mixed10; default: mixed10"
    )
    parser.add_argument("--checkpoint", choices=("best", "latest"), default="best")
    parser.add_argument("--margin", type=int, metavar="PX", help="default: the run's own")
    parser.add_argument(
        "--target",
        choices=("called", "benign", "malignant"),
        default="called",
        help="the class that is explained; default: the one called at the run's cutoff",
    )
    parser.add_argument(
        "--n", type=int, metavar="N", help="only N nodules, drawn by the run's seed"
    )
    parser.add_argument(
        "--sanity",
        action="store_true",
        help="also how far the maps survive making the weights random, layer by layer",
    )
