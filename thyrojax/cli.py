"""The `thyrojax` command: parses and prints, decides nothing.

Exit status 0; 2 for bad input, told in one line on stderr; 1 for a fault of ours; 143 for a
training that SIGTERM stopped, and that the next start goes on with.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from thyrojax.cli_analyse import add_analyse, summary_lines
from thyrojax.cli_data import add_data
from thyrojax.cli_ensemble import add_ensemble
from thyrojax.cli_explain import add_explain
from thyrojax.cli_range import add_lr_range
from thyrojax.cli_runs import add_runs
from thyrojax.cli_study import add_study
from thyrojax.cli_weights import add_weights
from thyrojax.errors import ThyrojaxError
from thyrojax.presets import fields_help, load_preset, override
from thyrojax.quiet import quieten_libraries


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    args, rest = _parser().parse_known_args(arguments)
    if rest and not args.takes_fields:
        args.parser.error(f"unknown arguments: {' '.join(rest)}")
    args.rest = rest
    args.arguments = sys.argv[1:] if arguments is None else list(arguments)
    quieten_libraries()
    try:
        args.run_command(args)
    except ThyrojaxError as error:
        print(f"thyrojax: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("thyrojax: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _say(quiet: bool) -> Any:
    return (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))


# ---- training and use


def _train(args: argparse.Namespace) -> None:
    import dataclasses

    if args.reproduce is not None and (args.preset is not None or args.rest):
        args.parser.error(
            f"--reproduce: found {' '.join([args.preset or '', *args.rest]).strip()} beside it, "
            "expected no preset and no field: they are the run's own"
        )
    if args.reproduce is None:
        if args.preset is None or args.data is None:
            args.parser.error("found no PRESET or no --data, expected both, or --reproduce RUN")
        config = override(load_preset(args.preset), args.rest, args.parser.prog)
        if args.weights is not None:
            config = dataclasses.replace(config, weights=args.weights)
    from thyrojax.processes import is_first
    from thyrojax.train import distributed
    from thyrojax.train.loop import train

    together = distributed.Processes(
        args.coordinator,
        args.num_processes,
        args.process_id,
        args.distributed,
        args.connect_seconds,
        args.heartbeat_seconds,
    )
    status, how = 0, {"quiet": args.quiet, "say": _say(args.quiet)}
    with distributed.joined(together):
        if args.reproduce is not None:
            from thyrojax.train.reproduce import reproduce

            found = reproduce(args.reproduce, args.data, args.workdir, args.weights, **how)
            finished, lines = found is not None, found.lines() if found else []
            status = 0 if found is None or found.verdict == "bitwise equal" else 1
        else:
            finished = train(config, args.data, args.workdir, **how)
            lines = [str(args.workdir)]
        if is_first():
            print("\n".join(lines))
    if not finished:
        from thyrojax.train.stopping import STOPPED_STATUS

        status = STOPPED_STATUS
    if status:
        sys.exit(status)


def _evaluate(args: argparse.Namespace) -> None:
    from thyrojax.evaluate import evaluate

    figures = evaluate(args.run, args.data, args.split, args.margin, args.checkpoint, args.margins)
    print(f"{figures['split']}: {figures['n']} nodules of {figures['n_patients']} patients")
    for line in summary_lines(figures):
        print(line)


def _report(args: argparse.Namespace) -> None:
    from thyrojax.report.html import write_report

    print(write_report(args.run))


def _predict(args: argparse.Namespace) -> None:
    from thyrojax.evaluate import predict

    found = predict(args.run, args.image, tuple(args.box), args.checkpoint, args.pixel_spacing)
    if args.json:
        print(json.dumps(found))
        return
    left, top, width, height = found["window"]
    print(f"score   {found['score']:.4f}")
    print(f"call    {found['call']} (cutoff {found['cutoff']:.4f}, from {found['cutoff_from']})")
    print(f"window  left {left}, top {top}, width {width}, height {height} px")


def _features(args: argparse.Namespace) -> None:
    from thyrojax.features import write_features

    shape = write_features(args.weights, args.images, args.out)
    print(f"{args.out}: pool {shape[0]} x {shape[1]}")


# ---- the arguments


def _parser() -> Parser:
    parser = Parser(
        prog="thyrojax",
        description="Inception-v3 for thyroid ultrasound, after Guan et al. 2019.",
        epilog="example: thyrojax data build phantom --out data/phantom",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    add_data(commands, _add, Parser)
    _add_learning(commands)
    add_lr_range(commands, _add)
    add_runs(commands, _add)
    add_ensemble(commands, _add)
    add_explain(commands, _add)
    add_analyse(commands, _add)
    add_study(commands, _add)
    add_weights(commands, _add, Parser)
    return parser


def _add(
    commands: Any,
    name: str,
    run_command: Any,
    text: str,
    example: str,
    **options: Any,
) -> Parser:
    parser: Parser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # `study --seed 3` is the field, not --seeds
        **options,
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.set_defaults(run_command=run_command, parser=parser, takes_fields=False)
    return parser


def _add_learning(commands: Any) -> None:
    train = _add(
        commands,
        "train",
        _train,
        "Train a run, or go on with it. SIGTERM saves and ends with status 143.",
        "thyrojax train quickstart --data data/phantom --workdir runs/demo --input-size 160\n\n"
        "fields of the configuration, each an option (defaults before the preset's):\n"
        + fields_help(),
    )
    train.add_argument(
        "preset", nargs="?", metavar="PRESET", help="a name in experiments/, or a FILE.py"
    )
    train.add_argument(
        "--reproduce",
        type=Path,
        metavar="RUN",
        help="instead of PRESET: do RUN again and compare; status 0 where all bytes are equal, "
        "1 where not, 2 where data or weights are others (docs/runs.md)",
    )
    train.add_argument("--data", type=Path, metavar="DIR", help="of --reproduce: default RUN's own")
    train.set_defaults(takes_fields=True)
    train.add_argument("--workdir", type=Path, required=True, metavar="RUN")
    train.add_argument("--weights", metavar="TAG|FILE|none", help="where the trunk starts from")
    _add_processes(train)

    evaluate = _add(
        commands,
        "evaluate",
        _evaluate,
        "Score a part of a run's data; the cutoff is chosen on the validation part.",
        "thyrojax evaluate runs/demo --split test --margin 50",
    )
    evaluate.add_argument("--data", type=Path, metavar="DIR", help="default: the run's own")
    evaluate.add_argument("--split", default="test", metavar="PART", help="train, val or test")
    evaluate.add_argument(
        "--margin", type=int, metavar="PX", help="in the run's unit; default: its own"
    )
    evaluate.add_argument(
        "--margins",
        type=int,
        nargs="+",
        default=(),
        metavar="PX",
        help="scores at these margins too: predictions/PART_marginPX.csv and val_marginPX.csv",
    )

    predict = _add(
        commands,
        "predict",
        _predict,
        "Score one nodule.",
        "thyrojax predict runs/demo nodule.png --box 120 80 260 190",
    )
    report = _add(
        commands,
        "report",
        _report,
        "Write report.html and figures/ of an evaluated run.",
        "thyrojax report runs/demo",
    )
    for parser in (evaluate, predict, report):
        parser.add_argument("run", type=Path, metavar="RUN")
    for parser in (evaluate, predict):
        parser.add_argument("--checkpoint", choices=("best", "latest"), default="best")
    predict.add_argument("image", type=Path, metavar="IMAGE")
    predict.add_argument(
        "--box",
        type=float,
        nargs=4,
        required=True,
        metavar=("X0", "Y0", "X1", "Y1"),
        help="pixels, half-open",
    )
    predict.add_argument(
        "--pixel-spacing", type=float, metavar="MM", help="mm per pixel, for margins in mm"
    )
    predict.add_argument("--json", action="store_true", help="one JSON object")

    features = _add(
        commands,
        "features",
        _features,
        "Pooled features (2048 a picture) of whole images, resized to 299x299 unless already so.",
        "thyrojax features --weights imagenet --images a.png b.png --out features.npz",
    )
    features.add_argument("--weights", required=True, metavar="TAG|FILE")
    features.add_argument("--images", type=Path, nargs="+", required=True, metavar="IMAGE")
    features.add_argument("--out", type=Path, required=True, metavar="F.npz")


def _add_processes(train: Parser) -> None:
    several = train.add_argument_group("several processes (docs/scale.md)")
    several.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, in all of them")
    several.add_argument("--num-processes", type=int, metavar="N")
    several.add_argument("--process-id", type=int, metavar="I", help="0 to N - 1")
    several.add_argument(
        "--distributed", action="store_true", help="found by JAX: SLURM, Open MPI, GKE, Cloud TPU"
    )
    several.add_argument(
        "--connect-seconds", type=int, default=300, metavar="S", help="for all to be there (300)"
    )
    several.add_argument(
        "--heartbeat-seconds",
        type=int,
        default=100,
        metavar="S",
        help="all end when one has given no sign of life for so long (100)",
    )


if __name__ == "__main__":
    sys.exit(main())
