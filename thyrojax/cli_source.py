"""What a source is and where it lies, on the command line: for every command that reads one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from thyrojax.data.sources import KINDS, OPTIONS, SOURCES
from thyrojax.errors import ConfigError

# The options of a source's `read`: how they are given on the command line.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "n_patients": {"flag": "--patients", "type": int, "metavar": "N"},
    "seed": {"flag": "--seed", "type": int, "metavar": "N"},
    "malignant": {"flag": "--malignant", "nargs": "+", "metavar": "NAME"},
    "benign": {"flag": "--benign", "nargs": "+", "metavar": "NAME"},
    "patient_pattern": {"flag": "--patient-pattern", "metavar": "REGEX"},
    "labels": {"flag": "--labels", "type": Path, "metavar": "FILE"},
    "smallest_area": {"flag": "--smallest-area", "type": int, "metavar": "PX"},
    "boxes": {"flag": "--boxes", "type": Path, "metavar": "FILE"},
    "key_file": {"flag": "--key-file", "type": Path, "metavar": "FILE"},
}


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Adds --from and the options that some sources take."""
    parser.add_argument("--from", dest="from_path", type=Path, metavar="PATH")
    for name, argument in _ARGUMENTS.items():
        takers = ", ".join(source for source in SOURCES if name in KINDS[source].options)
        how = {key: value for key, value in argument.items() if key != "flag"}
        parser.add_argument(argument["flag"], dest=name, help=f"{takers}: {OPTIONS[name]}", **how)


def refuse_input_as_output(args: argparse.Namespace, flag: str, output: Path | None) -> None:
    """A file that is read must not be the one that is written.

    Raises:
      ConfigError: it is.
    """
    if output is None or not output.exists():
        return
    given = {"--from": args.from_path}
    given |= {how["flag"]: getattr(args, name) for name, how in _ARGUMENTS.items()}
    for of, path in given.items():
        if isinstance(path, Path) and path.exists() and path.samefile(output):
            raise ConfigError(f"{flag}: found {output}, which {of} reads, expected another file")


def source_options(args: argparse.Namespace, source: str) -> dict[str, Any]:
    """The source's own options, where they were given.

    Raises:
      ConfigError: an option that this source has not.
    """
    options = _given(args)
    own = KINDS[source].options
    for name in options:
        if name not in own:
            flags = [str(_ARGUMENTS[each]["flag"]) for each in own]
            raise ConfigError(
                f"source {source}: found {_ARGUMENTS[name]['flag']}, "
                f"expected {', '.join(flags) or 'no option of that kind'}"
            )
    return options


def refuse_source_options(args: argparse.Namespace) -> None:
    """For a command that was given a built set, of which no source is read.

    Raises:
      ConfigError: --from, or an option that some source has.
    """
    flags = [str(_ARGUMENTS[name]["flag"]) for name in _given(args)]
    if args.from_path is not None:
        flags.insert(0, "--from")
    if flags:
        raise ConfigError(
            f"{flags[0]}: found it with the set {args.set}, expected it with a source: "
            f"{', '.join(SOURCES)}"
        )


def _given(args: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(args, name) for name in _ARGUMENTS}
    return {name: value for name, value in given.items() if value is not None}
