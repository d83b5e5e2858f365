"""A study as files: tables, figures, metrics.json, and one page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from thyrojax.analysis.operating_point import write_metrics
from thyrojax.analysis.study import Study
from thyrojax.analysis.table import Table
from thyrojax.errors import ConfigError
from thyrojax.files import write_whole
from thyrojax.report.checklist import checklist_section, checklist_tables
from thyrojax.report.markup import (
    Markup,
    bullets,
    document,
    escaped,
    paragraph,
    section,
    settings,
    table,
)
from thyrojax.report.study_figures import draw_study, figure_names
from thyrojax.report.study_sections import TABLES, Section, sections

_REPRODUCE = "study-reproduce"


def write_study(out: Path, study: Study, provenance: dict[str, Any]) -> Path:
    """Writes OUT/tables/*.csv and *.md, figures/*.png and *.svg, metrics.json and report.html.

    Everything is made before the first file is written, and each file is written whole; the page
    comes last. `provenance` says how to get the same again: `command` (text), `seed`, `versions`
    (a version by package), `files` (one mapping per file, with `name`, `path`, `sha256`), and
    whatever else the page shall list.

    Returns:
      The path of the page.

    Tables and figures that an earlier study left there and this one has not are removed.

    Raises:
      ConfigError: OUT is a run, whose own files have these names.
      ThyrojaxError: the folder cannot be written.
    """
    if (out / "config.json").exists():
        raise ConfigError(f"--out: found {out}, a run, expected a folder of the study's own")
    drawn = draw_study(study)
    parts = sections(study, drawn)
    parts.append(Section("checklists", "Reporting checklists", checklist_section(study=study)))
    page = study_page(study, parts, provenance)
    write_tables(out, [*study.tables.values(), *checklist_tables(study=study)])
    for name, rendered in drawn.items():
        write_whole(out / "figures" / f"{name}.png", rendered.png)
        write_whole(out / "figures" / f"{name}.svg", rendered.svg)
    for name in TABLES - set(study.tables):
        _remove(out / "tables", name, ("csv", "md"))
    for name in set(figure_names()) - set(drawn):
        _remove(out / "figures", name, ("png", "svg"))
    write_metrics(out / "metrics.json", study.metrics)
    path = out / "report.html"
    write_whole(path, page.encode())
    return path


def _remove(folder: Path, name: str, endings: Sequence[str]) -> None:
    for ending in endings:
        (folder / f"{name}.{ending}").unlink(missing_ok=True)


def write_tables(out: Path, tables: Sequence[Table]) -> None:
    """Writes OUT/tables/NAME.csv and NAME.md; every text is made before the first is written."""
    texts = {f"{source.name}.csv": source.to_csv() for source in tables}
    texts |= {f"{source.name}.md": source.to_markdown() for source in tables}
    for name, text in texts.items():
        write_whole(out / "tables" / name, text.encode())


def study_page(study: Study, parts: Sequence[Section], provenance: Mapping[str, Any]) -> str:
    """The whole page, with contents and the section that says how to get the same again."""
    positive, negative = study.label_names[::-1]
    others = len(study.predictions) - 1
    compared = f", compared with {others} other{'s' if others > 1 else ''}" if others else ""
    title = f"{study.lead}: {positive} or {negative}"
    last = Section(_REPRODUCE, "To get the same again", reproducibility(study, provenance))
    shown = [*parts, last]
    now = datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    return document(
        title,
        f'<p class="subtitle">Diagnostic accuracy of {escaped(study.lead)}{escaped(compared)}. '
        "Statistical report.</p>",
        [(part.identifier, part.heading) for part in shown],
        "\n".join(part.html for part in shown),
        f"<p>Written by thyrojax {escaped(_version())} on {now}. Research software: not a medical "
        "device.</p>",
    )


def reproducibility(study: Study, provenance: Mapping[str, Any]) -> str:
    """Command, seed, files with their sha256, versions, and the files that hold the figures."""
    known = ("command", "files", "versions")
    parts = []
    if provenance.get("command"):
        parts.append(f"<p>Command: <code>{escaped(provenance['command'])}</code></p>")
    rest: dict[str, object] = {}
    for name, value in provenance.items():
        if name not in known:
            rest |= value if isinstance(value, Mapping) else {name: value}
    rest = {
        name.replace("_", " "): "not set" if value in (None, "") else value
        for name, value in rest.items()
    }
    if rest:
        parts.append(settings(rest))
    files = _files(provenance.get("files") or {})
    if files:
        columns = list(dict.fromkeys(key for entry in files for key in entry))
        rows = [[entry.get(column, "-") for column in columns] for entry in files]
        parts.append(table("Files that were read.", [name.capitalize() for name in columns], rows))
    versions = provenance.get("versions") or {}
    if versions:
        parts += ["<h3>Versions</h3>", settings(dict(versions))]
    parts.append("<h3>Files beside this page</h3>")
    parts.append(paragraph("They have every digit. Tables are CSV, and Markdown of the same name."))
    parts.append(
        bullets(
            [
                Markup(
                    f"<code>tables/{escaped(name)}.csv</code>: {escaped(source.caption)} "
                    f"({len(source.rows):,} row{'' if len(source.rows) == 1 else 's'})"
                )
                for name, source in study.tables.items()
            ]
            + [Markup("<code>figures/</code>: each figure as PNG and SVG")]
            + [Markup("<code>metrics.json</code>: the main figures for programs")]
        )
    )
    return section(_REPRODUCE, "To get the same again", *parts)


def _files(given: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One mapping per file; a plain {name: sha256} is taken too."""
    if isinstance(given, Mapping):
        return [
            {"name": name, **(entry if isinstance(entry, Mapping) else {"sha256": entry})}
            for name, entry in given.items()
        ]
    return list(given)


def _version() -> str:
    try:
        return metadata.version("thyrojax")
    except metadata.PackageNotFoundError:
        return "not installed"
