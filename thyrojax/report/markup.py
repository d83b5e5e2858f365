"""Pieces of HTML. Every text that comes from a file is escaped here, and only here."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from thyrojax.report.figures import Rendered


def escaped(text: object) -> str:
    """Any value as HTML text, safe inside quoted attributes too."""
    return escape(str(text), quote=True)


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
) -> str:
    """A table in a frame that scrolls sideways on narrow screens.

    The first `row_headings` cells of each row are headings; cells that are numbers stand right.
    """
    head = "".join(
        f'<th scope="col"{_kind(below)}>{escaped(cell)}</th>'
        for cell, below in zip(header, rows[0], strict=True)
    )
    body = []
    for row in rows:
        cells = []
        for place, cell in enumerate(row):
            if place < row_headings:
                cells.append(f'<th scope="row">{escaped(cell)}</th>')
            else:
                cells.append(f"<td{_kind(cell)}>{escaped(cell)}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    lines = "\n".join(body)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(caption)}">\n'
        f"<table>\n<caption>{escaped(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
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


def _kind(cell: object) -> str:
    return ' class="number"' if isinstance(cell, int | float) else ""


def plural(count: int, noun: str) -> str:
    """ "1 nodule", "2 nodules"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
