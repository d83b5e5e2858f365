"""`thyrojax lr-range`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from thyrojax.presets import load_preset, override


def add_lr_range(commands: Any, add: Any) -> None:
    """Adds the command; `add` is `cli._add`."""
    parser = add(
        commands,
        "lr-range",
        _lr_range,
        "Learning-rate range test: losses over rising rates, and a suggested lr. Keeps no network.",
        "thyrojax lr-range quickstart --data data/phantom --out runs/rates --input-size 160\n\n"
        "every field of the configuration is an option, as with `thyrojax train`",
    )
    parser.set_defaults(takes_fields=True)
    parser.add_argument("preset", metavar="PRESET", help="a name in experiments/, or a FILE.py")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--low", type=float, default=1e-6, metavar="RATE", help="first (1e-6)")
    parser.add_argument("--high", type=float, default=1.0, metavar="RATE", help="last (1)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="of one batch (100)")


def _lr_range(args: argparse.Namespace) -> None:
    config = override(load_preset(args.preset), args.rest, args.parser.prog)
    from thyrojax.train.range_test import run_range_test

    def say(line: str) -> None:
        if not args.quiet:
            print(line, file=sys.stderr, flush=True)

    found = run_range_test(
        config, args.data, args.out, low=args.low, high=args.high, steps=args.steps, say=say
    )
    if found.suggested is None:
        print("no lr suggested: the smoothed loss never fell; see lr_range.png, try a lower --low")
    else:
        print(f"lr={found.suggested:.1e}")
        if found.lowest == len(found.rates) - 1:
            say("the loss was still falling at the last step: a higher --high may suggest more")
    print(args.out / "lr_range.png")
