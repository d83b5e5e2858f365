"""`thyrojax study`: parses and prints, decides nothing."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from thyrojax.errors import ConfigError

_EXAMPLE = """\
thyrojax study experiments/crop_shape.py --data phantom --small --workdir studies/crop_shape

what is finished is kept: the same command again goes on. on several machines that share a folder,
each takes a part, and the last one tabulates:
  thyrojax study experiments/margin.py --data data/mine --workdir studies/margin --shard 1/2

fields of the configuration are options here too, of every run of the study: --epochs 3"""


def _study(args: argparse.Namespace) -> None:
    from thyrojax.data.dataset import open_dataset
    from thyrojax.features import FEATURE_SIZE
    from thyrojax.presets import override
    from thyrojax.study import sets
    from thyrojax.study.finish import finish
    from thyrojax.study.frozen import probes
    from thyrojax.study.jobs import run_jobs
    from thyrojax.study.plan import chosen_arms, load_study, reference_of, units_of
    from thyrojax.study.run import is_finished, run_units
    from thyrojax.train.provenance import usable_cores
    from thyrojax.train.stopping import STOPPED_STATUS

    say = (lambda line: None) if args.quiet else (lambda line: print(line, file=sys.stderr))
    shard, cores = _shard(args.shard), len(usable_cores())
    if not 1 <= args.jobs <= cores:
        raise ConfigError(f"--jobs: found {args.jobs}, expected 1 to {cores}, a core for each")
    study = load_study(args.study)
    found = sets.open_sets(args.data, args.workdir, args.small)
    base = sets.base_config(study, found[""], args.small)
    if args.probe:  # whose own tables (`after`) are of trained networks
        study = dataclasses.replace(study, after=None)
        base = base if args.small else dataclasses.replace(base, input_size=FEATURE_SIZE)
    base = override(base, args.rest, args.parser.prog)
    seeds = range(args.seeds if args.seeds is not None else study.seeds)
    if not seeds:
        raise ConfigError(f"--seeds: found {args.seeds}, expected at least 1")
    opened = {name: open_dataset(path) for name, path in found.items()}
    arms, left_out = chosen_arms(study, base, args.only, opened)
    if args.probe:
        arms, alike = probes(arms)
        left_out += alike
    for line in left_out:
        say(f"left out: {line}")
    units, reference = units_of(arms, base, seeds, opened), reference_of(study, base)
    if args.dry_run:
        _print_estimate(units, found, args.workdir)
        return
    done = (
        run_units(units, found, args.workdir, shard, say)
        if args.jobs == 1
        else run_jobs(units, found, args.workdir, shard, args.jobs, args.quiet)
    )
    if not done:
        sys.exit(STOPPED_STATUS)
    missing = [unit for unit in units if not is_finished(unit, args.workdir)]
    if missing:
        print(f"{args.workdir}: {len(missing)} of {len(units)} runs are still to be done elsewhere")
        return
    command = shlex.join(["thyrojax", *_lasting(args.arguments)])
    print(finish(study, arms, units, reference, found, args.workdir, command, left_out))


def _print_estimate(units: Any, sets: Any, workdir: Path) -> None:
    from thyrojax.study.estimate import estimate_units

    estimates, source = estimate_units(units, sets, workdir)
    for one in estimates:
        state = "finished" if one.finished else f"{one.seconds / 60.0:6.1f} min"
        print(f"{one.unit.folder!s:<44} {state:>10}  {one.memory / 1e9:5.1f} GB")
    left = [one for one in estimates if not one.finished]
    minutes = sum(one.seconds for one in left) / 60.0
    print(f"{len(left)} of {len(estimates)} runs left: {minutes:.0f} minutes in turn ({source})")


def _lasting(arguments: Sequence[str]) -> list[str]:
    """Without what is of one start alone: its part, how many runs at once, what it says."""
    kept, rest = [], iter(arguments)
    for one in rest:
        if one in ("--shard", "--jobs"):
            next(rest, None)
        elif one != "--quiet" and not one.startswith(("--shard=", "--jobs=")):
            kept.append(one)
    return kept


def _shard(text: str) -> tuple[int, int]:
    first, slash, of = text.partition("/")
    if not (slash and first.isdecimal() and of.isdecimal() and 1 <= int(first) <= int(of)):
        raise ConfigError(f"--shard: found {text!r}, expected I/N with I from 1 to N")
    return int(first), int(of)


def add_study(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the parser's commands."""
    parser = add(
        commands,
        "study",
        _study,
        "Run a study: many runs, then tables, figures and a page. What is finished is kept.",
        _EXAMPLE,
    )
    parser.set_defaults(takes_fields=True)
    parser.add_argument("study", type=Path, metavar="STUDY", help="a .py file, or a folder of one")
    parser.add_argument("--workdir", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--data",
        nargs="+",
        default=["phantom"],
        metavar="[NAME=]DIR",
        help="a built set, or phantom (default); further sets by the name that the study has",
    )
    parser.add_argument("--small", action="store_true", help="at a size that two cores bear")
    parser.add_argument(
        "--probe",
        action="store_true",
        help="train no network: each arm is a logistic regression on frozen features, at 299 px",
    )
    parser.add_argument("--only", nargs="+", default=(), metavar="ARM", help="of these arms")
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N - 1 for each arm")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="every N-th run from I on")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="runs at once, each on its own cores"
    )
    parser.add_argument("--dry-run", action="store_true", help="list runs, time and memory")
