"""Takes finished studies into experiments/results, and writes the table of experiments/README.md.

    python -m experiments.publish studies/crop_shape [DIR ...]

DIR is what `thyrojax study` was given as --workdir. Its tables, figures and about.json are copied
to experiments/results/STUDY/SET-SIZEpx in place of what was there, and the README's table is made
anew from every about.json in experiments/results. Nobody types into it. Cost: seconds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thyrojax.analysis.table import table_of
from thyrojax.errors import RunError, ThyrojaxError, one_line
from thyrojax.files import new_folder, write_whole

HERE = Path(__file__).parent
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
FIELDS = (
    *("study", "source", "method", "question", "finding"),
    *("command", "hours", "runs", "input_size", "machines"),
)
COPIED = (
    *("about.json", "tables/*.csv", "tables/*.md", "figures/*.png"),
    # guan2019 alone: what the paper prints, and its Figure 1
    *("analysis/tables/*.md", "analysis/figures/*.png"),
    *("figure1/by_size_group_cm.png", "figure1/by_ti_rads.png"),
)


def main(arguments: Sequence[str] | None = None, here: Path = HERE) -> int:
    """Copies the studies and writes the table."""
    parser = argparse.ArgumentParser(prog="publish", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("studies", type=Path, nargs="*", metavar="DIR")
    args = parser.parse_args(arguments)
    try:
        abouts = {path: read_about(path) for path in args.studies}
        readme, results = here / "README.md", here / "results"
        before, after = _around_table(readme)
        for path, about in abouts.items():
            print(publish(path, results / about["study"] / _folder(about)))
        write_whole(readme, (before + results_table(results) + after).encode())
    except ThyrojaxError as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2
    return 0


def _caution(about: dict[str, Any]) -> str:
    """Networks of two seeds may be further apart than two arms; a probe has no seed."""
    alone = about.get("seeds", 1) == 1 and about["method"] != "linear probe"
    return " One seed: how far networks of other seeds differ is not in these." if alone else ""


def _folder(about: dict[str, Any]) -> str:
    """SET-SIZEpx, or SET-probe-SIZEpx."""
    probe = "-probe" if about["method"] == "linear probe" else ""
    return f"{about['source']}{probe}-{about['input_size']}px"


def read_about(folder: Path, wanted: Sequence[str] = FIELDS) -> dict[str, Any]:
    """What a finished study tells of itself, which must have the fields `wanted`.

    Raises:
      RunError: no finished study lies there.
    """
    path = folder / "about.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found = one_line(str(error))
        raise RunError(f"{path}: found {found}, expected that of a finished study") from error
    missing = [name for name in wanted if not isinstance(about, dict) or name not in about]
    if missing:
        raise RunError(f"{path}: found no {' or '.join(missing)}, expected {', '.join(wanted)}")
    return dict(about)


def publish(folder: Path, place: Path) -> Path:
    """Copies a study's tables, figures and about.json to `place`, whose content they replace."""
    with new_folder(place) as coming:
        for pattern in COPIED:
            for path in sorted(folder.glob(pattern)):
                to = coming / path.relative_to(folder)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, to)
    return place


def results_table(results: Path) -> str:
    """All published studies as a Markdown table: study, set, finding, command, cost."""
    records = []
    for path in sorted(results.glob("*/[!.]*/about.json")):
        about = read_about(path.parent)
        place = path.parent.relative_to(results.parent).as_posix()
        seeds, folds = about.get("seeds", 1), about.get("folds", 0)
        records.append(
            {
                "Study": f"[{about['study']}]({place}/tables/results.md)",
                "Set": about["source"],
                "Networks": about["method"],
                "Finding (95 % intervals over patients)": about["finding"] + _caution(about),
                "Command": f"`{about['command']}`",
                "Cost": (
                    f"{about['runs']} runs ({seeds} seed{'s' if seeds > 1 else ''}"
                    f"{f', {folds} folds' if folds else ''}) of {about['input_size']} px: "
                    f"{60 * about['hours']:.0f} min on {about['machines']}"
                ),
            }
        )
    if not records:
        return "\nNothing has been published yet.\n"
    return "\n" + _rows(table_of("published", "", records).to_markdown()) + "\n"


def _rows(markdown: str) -> str:
    """The lines of a Markdown table, without its caption and footnotes."""
    return "\n".join(line for line in markdown.splitlines() if line.startswith("|"))


def _around_table(readme: Path) -> tuple[str, str]:
    """The README up to and with the first mark, and from the second one on.

    Raises:
      RunError: it cannot be read, or has not both marks, once and in order.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RunError(f"{readme}: found {one_line(str(error))}, expected a text file") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise RunError(f"{readme}: found no {BEGIN} with {END} after it, expected one pair")
    return before + BEGIN + "\n", END + after


if __name__ == "__main__":
    sys.exit(main())
