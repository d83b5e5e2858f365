"""The `thyrojax` command: parses and prints, decides nothing.

Exit status 0; 2 for bad input, told in one line on stderr; 1 for a fault of ours.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from thyrojax.cli_weights import add_weights
from thyrojax.data.sources import SOURCES
from thyrojax.errors import ConfigError, ThyrojaxError
from thyrojax.presets import fields_help, load_preset, override

SOURCE_HELP = "csv FILE, ddti FOLDER, busbra FOLDER, or phantom (built in, no --from)"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    args, rest = _parser().parse_known_args(arguments)
    if rest and args.run_command is not _train:
        args.parser.error(f"unknown arguments: {' '.join(rest)}")
    args.rest = rest
    _quieten_libraries()
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


def _quieten_libraries() -> None:
    """Libraries' own chatter off, unless the environment asks for it."""
    # Pillow and others warn on damaged files; our own line says what matters.
    warnings.simplefilter("ignore")
    logging.getLogger("absl").setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "thyrojax" / "xla"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))


def _say(quiet: bool) -> Any:
    return (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))


# ---- data


def _source_options(args: argparse.Namespace) -> dict[str, int]:
    """The phantom's own options, where they were given."""
    given = {"n_patients": args.patients, "seed": args.seed}
    options = {name: value for name, value in given.items() if value is not None}
    if options and args.source != "phantom":
        raise ConfigError(f"source {args.source}: found --patients or --seed, expected neither")
    return options


def _data_check(args: argparse.Namespace) -> None:
    from thyrojax.data import check
    from thyrojax.errors import DataFaults

    try:
        data, table = check.check_source(args.source, args.from_path, **_source_options(args))
    except DataFaults as faults:
        if args.csv:
            check.write_csv(faults, args.csv)
        raise
    if args.csv:
        check.write_csv(data, args.csv)
    print(table)


def _data_build(args: argparse.Namespace) -> None:
    from thyrojax.data.builder import build
    from thyrojax.data.sources import read_source, source_kind

    mask = source_kind(args.source).mask_overlay if args.mask is None else args.mask
    data = read_source(args.source, args.from_path, **_source_options(args))
    build(
        data,
        args.out,
        mask,
        overwrite=args.overwrite,
        progress=not args.quiet and sys.stderr.isatty(),
    )
    patients = len({nodule.patient_id for nodule in data.nodules})
    print(f"{args.out}: {len(data.nodules)} nodules of {patients} patients")


# ---- training and use


def _train(args: argparse.Namespace) -> None:
    import dataclasses

    config = override(load_preset(args.preset), args.rest, args.parser.prog)
    if args.weights is not None:
        config = dataclasses.replace(config, weights=args.weights)
    from thyrojax.train.loop import train

    train(config, args.data, args.workdir, quiet=args.quiet, say=_say(args.quiet))
    print(args.workdir)


def _evaluate(args: argparse.Namespace) -> None:
    from thyrojax.evaluate import evaluate

    figures = evaluate(args.run, args.data, args.split, args.margin, args.checkpoint)
    print(f"{figures['split']}: {figures['n']} nodules of {figures['n_patients']} patients")
    for name in ("auc", "accuracy", "sensitivity", "specificity"):
        value, interval = figures[name], figures[f"{name}_ci"]
        if value is None:
            print(f"{name:<12} -      {figures[f'{name}_reason']}")
        else:
            limits = f"(95 % CI {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
            print(f"{name:<12} {value:.3f}  {limits}")
    print(f"cutoff       {figures['cutoff']:.4f} (from {figures['cutoff_from']})")


def _report(args: argparse.Namespace) -> None:
    from thyrojax.report.html import write_report

    print(write_report(args.run))


def _predict(args: argparse.Namespace) -> None:
    from thyrojax.evaluate import predict

    found = predict(args.run, args.image, tuple(args.box), args.checkpoint)
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
    _add_data(commands)
    _add_learning(commands)
    add_weights(commands, _add, Parser)
    return parser


def _add(
    commands: Any, name: str, run_command: Any, text: str, example: str, **options: Any
) -> Parser:
    parser: Parser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **options,
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.set_defaults(run_command=run_command, parser=parser)
    return parser


def _add_data(commands: Any) -> None:
    data = commands.add_parser("data", help="look at and build datasets")
    actions = data.add_subparsers(required=True, metavar="ACTION", parser_class=Parser)

    check = _add(
        actions,
        "check",
        _data_check,
        "Count what a source holds and name all that it leaves out, or every fault.",
        "thyrojax data check csv --from nodules.csv --csv left_out.csv",
    )
    build = _add(
        actions,
        "build",
        _data_build,
        "Write a source as a TFDS dataset.",
        "thyrojax data build phantom --out data/phantom",
    )
    for parser in (check, build):
        parser.add_argument("source", choices=SOURCES, metavar="SOURCE", help=SOURCE_HELP)
        parser.add_argument("--from", dest="from_path", type=Path, metavar="PATH")
        parser.add_argument("--patients", type=int, metavar="N", help="of the phantom")
        parser.add_argument("--seed", type=int, metavar="N", help="of the phantom")
    check.add_argument("--csv", type=Path, metavar="FILE", help="exclusions, or faults, as CSV")
    build.add_argument("--out", type=Path, required=True, metavar="DIR")
    build.add_argument("--overwrite", action="store_true", help="replace a built set")
    build.add_argument(
        "--mask-overlay",
        dest="mask",
        action=argparse.BooleanOptionalAction,
        help="blank what lies outside the scan sector (default: for ddti)",
    )


def _add_learning(commands: Any) -> None:
    train = _add(
        commands,
        "train",
        _train,
        "Train a run, or go on with it.",
        "thyrojax train quickstart --data data/phantom --workdir runs/demo --input-size 160\n\n"
        "fields of the configuration, each an option (defaults before the preset's):\n"
        + fields_help(),
    )
    train.add_argument("preset", metavar="PRESET", help="a name in experiments/, or a FILE.py")
    train.add_argument("--data", type=Path, required=True, metavar="DIR")
    train.add_argument("--workdir", type=Path, required=True, metavar="RUN")
    train.add_argument("--weights", metavar="TAG|FILE|none", help="where the trunk starts from")

    evaluate = _add(
        commands,
        "evaluate",
        _evaluate,
        "Score a part of a run's data; the cutoff is chosen on the validation part.",
        "thyrojax evaluate runs/demo --split test --margin 50",
    )
    evaluate.add_argument("--data", type=Path, metavar="DIR", help="default: the run's own")
    evaluate.add_argument("--split", default="test", metavar="PART", help="train, val or test")
    evaluate.add_argument("--margin", type=int, metavar="PX", help="default: the run's own")

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


if __name__ == "__main__":
    sys.exit(main())
