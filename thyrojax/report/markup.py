"""Pieces of HTML. Every text that comes from a file is escaped here, and only here."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from html import escape

from thyrojax.report.figures import Rendered
from thyrojax.report.style import STYLE_SHEET


class Markup(str):
    """HTML made here of escaped pieces, which tables and lists take as it stands."""

    __slots__ = ()


def escaped(text: object) -> str:
    """Any value as HTML text, safe inside quoted attributes too."""
    return text if isinstance(text, Markup) else escape(str(text), quote=True)


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escaped(text)}</p>"


def section(identifier: str, heading: str, *parts: str) -> str:
    """A section under an h2; `parts` are HTML."""
    body = "\n".join(part for part in parts if part)
    return (
        f'<section aria-labelledby="{identifier}">\n<h2 id="{identifier}">{escaped(heading)}</h2>\n'
        f"{body}\n</section>"
    )


def table(
    caption: str,
    header: Sequence[object],
    rows: Sequence[Sequence[object]],
    row_headings: int = 1,
    group_rows: Collection[int] = (),
) -> str:
    """A table in a frame that scrolls sideways on narrow screens.

    The first `row_headings` cells of each row are headings; cells that are numbers, or estimates,
    stand right. The rows whose places are in `group_rows` stand above those that they sum up.
    """
    head = "".join(
        f'<th scope="col"{_kind(below)}>{escaped(cell)}</th>'
        for cell, below in zip(header, rows[0], strict=True)
    )
    body = []
    for number, row in enumerate(rows):
        cells = []
        for place, cell in enumerate(row):
            if place < row_headings:
                cells.append(f'<th scope="row">{escaped(cell)}</th>')
            else:
                cells.append(f"<td{_kind(cell)}>{escaped(cell)}</td>")
        kind = ' class="group"' if number in group_rows else ""
        body.append(f"<tr{kind}>{''.join(cells)}</tr>")
    lines = "\n".join(body)
    grouped = ' class="grouped"' if group_rows else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(caption)}">\n'
        f"<table{grouped}>\n<caption>{escaped(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{lines}\n</tbody>\n</table>\n</div>"
    )


def figure(rendered: Rendered, alternative: str, caption: str, vector: bool = True) -> str:
    """A figure with its image inlined, as SVG or (for photographs) as PNG."""
    kind, content = ("svg+xml", rendered.svg) if vector else ("png", rendered.png)
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return (
        f'<figure style="max-width:{rendered.width}px">\n'
        f'<img width="{rendered.width}" src="{source}" alt="{escaped(alternative)}">\n'
        f"<figcaption>{escaped(caption)}</figcaption>\n</figure>"
    )


def beside(figures: Sequence[str]) -> str:
    """Figures side by side where there is room; nothing without figures."""
    return f'<div class="figures">\n{"".join(figures)}\n</div>' if figures else ""


class Estimate(Markup):
    """A number as text, or one with its interval; stands right in a table."""

    __slots__ = ()


def estimate(value: str, interval: str = "") -> Estimate:
    """A value, and below it its interval in brackets."""
    below = f' <span class="interval">({escaped(interval)})</span>' if interval else ""
    return Estimate(escaped(value) + below)


def marked(text: object, marks: Sequence[str]) -> Markup:
    """A text with the letters of its notes, which stand below the table."""
    letters = f"<sup>{escaped(', '.join(marks))}</sup>" if marks else ""
    return Markup(f"{escaped(text)}{letters}")


def notes(lettered: Sequence[tuple[str, str]], plain: Sequence[str] = ()) -> str:
    """The notes under a table: those with letters first; nothing where there is none."""
    items = [f"<li><sup>{escaped(letter)}</sup> {escaped(note)}</li>" for letter, note in lettered]
    items += [f"<li>{escaped(note)}</li>" for note in plain]
    return f'<ul class="notes">\n{"".join(items)}\n</ul>' if items else ""


def bullets(items: Sequence[object]) -> str:
    """A list of texts."""
    return "<ul>" + "".join(f"<li>{escaped(item)}</li>" for item in items) + "</ul>"


def warning_box(identifier: str, heading: str, sentences: Sequence[str]) -> str:
    """What must be read together with the results, in a frame; nothing without sentences."""
    if not sentences:
        return ""
    return (
        f'<div class="warnings" role="note" aria-labelledby="{identifier}">\n'
        f'<h3 id="{identifier}">{escaped(heading)}</h3>\n{bullets(sentences)}\n</div>'
    )


def settings(values: Mapping[str, object]) -> str:
    """Names and values, one pair to a line."""
    items = "\n".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>"
        for name, value in values.items()
    )
    return f'<dl class="settings">\n{items}\n</dl>'


def contents(entries: Sequence[tuple[str, str]]) -> str:
    """Links to the sections: (identifier, heading) each."""
    links = "".join(
        f'<li><a href="#{identifier}">{escaped(heading)}</a></li>'
        for identifier, heading in entries
    )
    return (
        '<nav class="contents" aria-labelledby="contents">\n<h2 id="contents">Contents</h2>\n'
        f"<ol>{links}</ol>\n</nav>"
    )


def document(
    title: str, lead: str, entries: Sequence[tuple[str, str]], body: str, foot: str
) -> str:
    """A whole page that needs nothing beside it; `lead`, `body` and `foot` are HTML.

    It begins with a link past the contents for those who read by keyboard or by ear.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escaped(title)}</title>
<style>{STYLE_SHEET}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the results</a>
<header>
<h1>{escaped(title)}</h1>
{lead}
</header>
{contents(entries)}
<main id="main" tabindex="-1">
{body}
</main>
<footer>{foot}</footer>
</body>
</html>
"""


def _kind(cell: object) -> str:
    return ' class="number"' if isinstance(cell, int | float | Estimate) else ""


def plural(count: int, noun: str) -> str:
    """ "1 nodule", "2 nodules"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
