"""`thyrojax weights`: parses and prints, decides nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

SHOWN = 4  # keys of one reason, differing arrays, before "and N more"
SOURCE_HELP = "a tag (`thyrojax weights list`), a file, or a run folder"

AddCommand = Callable[..., argparse.ArgumentParser]


def _say(quiet: bool) -> Callable[[str], None]:
    return (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))


def _reading(args: argparse.Namespace) -> dict[str, Any]:
    """The options that every reading command has."""
    return {
        "variant": args.variant,
        "depth_multiplier": args.depth_multiplier,
        "announce": _say(args.quiet),
    }


def _print_rows(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest cell, but for the last."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]).rstrip())


def _shorten(keys: Sequence[str]) -> str:
    rest = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + rest


# ---- the commands


def _inspect(args: argparse.Namespace) -> None:
    from thyrojax import weights

    found = weights.inspect(args.file, **_reading(args))
    if args.json:
        content = {**vars(found), "path": str(found.path), "variant": vars(found.variant)}
        print(json.dumps(content, indent=2))
        return
    heads = f"{found.classes} classes" if found.classes else "no classifier"
    rows = [
        ("file", f"{found.path} ({found.size / 1e6:.1f} MB)"),
        ("sha256", found.sha256),
        ("format", f"{found.format} ({found.description})"),
        ("pooling", f"{found.variant.pooling}, last block {found.variant.last_pool}"),
        ("epsilon", f"{found.variant.epsilon:g}"),
        ("preprocessing", f"{found.variant.preprocessing}, {_colours(found.channels)}"),
        ("classifier", heads + (", auxiliary head" if found.aux_head else "")),
        ("parameters", f"{found.parameters:,} without classifiers"),
        ("", f"{found.head_parameters:,} in classifiers"),
        ("used", f"{found.used} keys"),
    ]
    for reason, keys in found.ignored.items():
        rows.append(("ignored", f"{len(keys)} keys, {reason}: {_shorten(keys)}"))
    rows += [("note", note) for note in found.notes]
    rows += [(name, json.dumps(value)) for name, value in found.metadata.items()]
    _print_rows(rows)


def _colours(channels: int) -> str:
    return "grey" if channels == 1 else "RGB"


def _convert(args: argparse.Namespace) -> None:
    from thyrojax import weights

    done = weights.convert(
        args.source,
        args.target,
        args.to,
        classes=args.classes,
        fold_grey=args.fold_grey,
        preprocessing=args.preprocessing,
        input_size=args.input_size,
        overwrite=args.force,
        probe=args.probe,
        **_reading(args),
    )
    rows = [
        ("from", f"{done.source.path} ({done.source.format})"),
        ("to", f"{done.target} ({done.format})"),
        ("used", f"{len(done.source.used)} keys"),
    ]
    rows += [("ignored", f"{n} keys, {reason}") for reason, n in done.ignored.items()]
    rows += [("note", note) for note in done.notes]
    rows += _probe_rows(done.probe)
    _print_rows(rows)


def _probe_rows(probe: Mapping[str, float]) -> list[tuple[str, str]]:
    return [
        ("probe", f"{name}: largest difference {value:.1e} of the largest value")
        for name, value in probe.items()
    ]


def _compare(args: argparse.Namespace) -> None:
    from thyrojax import weights

    reading = {"depth_multiplier": args.depth_multiplier, "announce": _say(args.quiet)}
    first, second = (weights.read(name, **reading) for name in (args.first, args.second))
    found = weights.compare(first, second, probe=args.probe)
    counts: dict[str, int] = {}
    for leaf in found.leaves:
        counts[leaf.state] = counts.get(leaf.state, 0) + 1
    rows = [("verdict", found.verdict)]
    rows += [("variant", f"{name}: {a}, {b}") for name, (a, b) in found.variants.items()]
    rows += [("arrays", f"{n} {state}") for state, n in counts.items()]
    for leaf in found.leaves if args.all else _worst(found.leaves):
        detail = "" if leaf.state != "differs" else f" by {leaf.largest:.1e} ({leaf.relative:.1e})"
        rows.append(("array", f"{leaf.path} {leaf.state}{detail}"))
    _print_rows(rows + _probe_rows(found.probe))


def _worst(leaves: Sequence[Any]) -> list[Any]:
    other = [leaf for leaf in leaves if leaf.state != "equal"]
    return sorted(other, key=lambda leaf: -leaf.relative)[:SHOWN]


def _classify(args: argparse.Namespace) -> None:
    from thyrojax import weights

    read = weights.read(args.file, **_reading(args))
    answers = weights.classify(read, args.images, top=args.top)
    if args.json:
        rows = [
            {"image": str(image), "top": [vars(guess) for guess in guesses]}
            for image, guesses in zip(args.images, answers, strict=True)
        ]
        print(json.dumps(rows, indent=2))
        return
    for image, guesses in zip(args.images, answers, strict=True):
        print(image)
        for guess in guesses:
            print(f"  {guess.probability:.4f}  {guess.index:>4}  {guess.name}")


def _list(args: argparse.Namespace) -> None:
    from thyrojax import weights
    from thyrojax.errors import WeightsError

    entries = weights.catalog_rows()
    if args.tag is not None:
        entries = [entry for entry in entries if entry["tag"] == args.tag]
        if not entries:
            known = ", ".join(weights.CATALOG)
            raise WeightsError(f"{args.tag}: found no such tag, expected one of {known}")
    if args.json:
        print(json.dumps(entries, indent=2))
    elif args.tag is not None:
        _print_rows(_entry_rows(entries[0]))
    else:
        header = ("TAG", "CLASSES", "TOP-1", "SIZE", "CACHED", "WHAT")
        _print_rows([header, *map(_entry_row, entries)])


def _entry_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        entry["tag"],
        str(entry["classes"] or "-"),
        f"{entry['top1']:.2f}" if entry["top1"] else "-",
        _size(entry["origins"][0]["size"]),
        "yes" if entry["cached"] else "-",
        entry["description"],
    )


def _entry_rows(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    variant = entry["variant"]
    heads = f"{entry['classes']} classes" if entry["classes"] else "no classifier"
    top1 = f"{entry['top1']} % ({entry['top1_source']})" if entry["top1"] else "none published"
    rows = [
        ("tag", entry["tag"]),
        ("what", entry["description"]),
        ("classifier", heads + (", auxiliary head" if entry["aux_head"] else "")),
        ("pooling", f"{variant['pooling']}, last block {variant['last_pool']}"),
        ("preprocessing", variant["preprocessing"]),
        ("top-1", top1),
        ("licence", entry["licence"]),
        ("cached", "yes" if entry["cached"] else "no"),
    ]
    for origin in entry["origins"]:
        checksum = f"{origin['algorithm']} {origin['checksum']}" if origin["checksum"] else "none"
        rows.append(("from", f"{origin['where']} ({_size(origin['size'])}, checksum: {checksum})"))
        rows += [("", origin["note"])] if origin["note"] else []
    return rows


def _size(n_bytes: int | None) -> str:
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes else "?"


def _fetch(args: argparse.Namespace) -> None:
    from thyrojax import weights
    from thyrojax.weights.progress import terminal_progress

    with terminal_progress(args.quiet) as progress:
        print(weights.fetch(args.tag, announce=_say(args.quiet), progress=progress))


def _verify(args: argparse.Namespace) -> None:
    from thyrojax import weights
    from thyrojax.errors import WeightsError

    found = weights.verify_cache()
    if found:
        _print_rows([(file.state, file.tag or "-", str(file.path), file.detail) for file in found])
    else:
        print("nothing is cached")
    damaged = [str(file.path) for file in found if file.state == "damaged"]
    if damaged:
        raise WeightsError(f"found {len(damaged)} damaged files, expected none: {damaged[0]}")


# ---- the arguments


def add_weights(
    commands: Any, add: AddCommand, parser_class: type[argparse.ArgumentParser]
) -> None:
    """Adds `weights` and its actions to the command; `add` makes one action's parser."""
    weights = commands.add_parser("weights", help="fetch, inspect, convert and compare weights")
    actions = weights.add_subparsers(required=True, metavar="ACTION", parser_class=parser_class)

    inspect = add(
        actions,
        "inspect",
        _inspect,
        "Say what a file of weights is: format, variant, classes, and all that it holds besides.",
        "thyrojax weights inspect inception.h5",
    )
    inspect.add_argument("file", metavar="FILE", help=SOURCE_HELP)
    convert = add(
        actions,
        "convert",
        _convert,
        "Convert weights to another format and prove on a probe that nothing was lost.",
        "thyrojax weights convert runs/demo nodules.onnx --input-size 384",
    )
    convert.add_argument("source", metavar="SRC", help=SOURCE_HELP)
    convert.add_argument("target", type=Path, metavar="DST")
    convert.add_argument("--to", metavar="FORMAT", help="default: by the ending of DST")
    convert.add_argument(
        "--classes",
        choices=("keep", "drop", "1000"),
        default="keep",
        help="of the classifiers; 1000 drops the background row of 1001",
    )
    convert.add_argument("--fold-grey", action="store_true", help="for images of one channel")
    convert.add_argument("--preprocessing", metavar="P", help="that DST shall expect")
    convert.add_argument("--input-size", type=int, metavar="PX", help="fixed in an export")
    convert.add_argument("--force", action="store_true", help="replace DST")
    compare = add(
        actions,
        "compare",
        _compare,
        "Compare two files array by array and by their networks' answers, whatever their formats.",
        "thyrojax weights compare inception.h5 inception.pth",
    )
    compare.add_argument("first", metavar="A", help=SOURCE_HELP)
    compare.add_argument("second", metavar="B")
    compare.add_argument("--all", action="store_true", help="name every array")
    classify = add(
        actions,
        "classify",
        _classify,
        "Name the five likeliest classes of whole images.",
        "thyrojax weights classify inception_v3.ckpt cat.png coffee.png",
    )
    classify.add_argument("file", metavar="FILE", help=SOURCE_HELP)
    classify.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    classify.add_argument("--top", type=int, default=5, metavar="N")
    for parser in (inspect, classify):
        parser.add_argument("--json", action="store_true", help="as JSON")
    for parser in (convert, compare):
        parser.add_argument("--no-probe", dest="probe", action="store_false", help="run no network")
    for parser in (inspect, convert, classify):
        parser.add_argument(
            "--variant", metavar="V", help="whose network it is, where the file cannot tell"
        )
    for parser in (inspect, convert, compare, classify):
        parser.add_argument("--depth-multiplier", type=float, default=1.0, metavar="X")
    listing = add(
        actions,
        "list",
        _list,
        "List the weights that can be fetched by tag, or tell all that is known of one.",
        "thyrojax weights list timm-gluon_in1k",
    )
    listing.add_argument("tag", nargs="?", metavar="TAG")
    listing.add_argument("--json", action="store_true", help="all that is known, as JSON")
    fetch = add(
        actions,
        "fetch",
        _fetch,
        "Download weights into the cache, checksum verified, and print where they are.",
        "thyrojax weights fetch imagenet",
    )
    fetch.add_argument("tag", metavar="TAG")
    add(
        actions,
        "verify",
        _verify,
        "Check every file of the cache against its checksum.",
        "thyrojax weights verify",
    )
