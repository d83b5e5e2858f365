"""The sheet's page: a frame of HTML around the data, the style and the script, in one file."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import Any

_KEY = '<svg class="key" viewBox="0 0 28 8" aria-hidden="true"><path class="{}" d="M0 4H28"/></svg>'
_LAYERS = (
    ("box", f"{_KEY.format('box')}annotated box"),
    ("window", '<span id="window-keys">window</span>'),
    ("sector", f"{_KEY.format('sector')}scan sector"),
)
_SORTS = (
    ("order", "order in the set"),
    ("id", "image"),
    ("patient", "patient"),
    ("label", "label"),
    ("size", "size in mm, largest first"),
    ("area", "box area, largest first"),
    ("ratio", "box height / width, tallest first"),
)
_ARIA_KEYS = "Arrow keys move from frame to frame, Enter opens one."

_BORDERS = {
    "constant": "What a window shows outside the frame is black",
    "edge": "What a window shows outside the frame repeats its edge",
    "reflect": "What a window shows outside the frame mirrors it",
    "shift": "A window that leaves the frame is moved inside; the rest of a larger one is black",
}


def sheet_page(content: dict[str, Any]) -> str:
    """The whole page for what `sheet.sheet_content` gives; it asks nothing of any network."""
    shown, known = len(content["entries"]), content["n_nodules"]
    part = "" if shown == known else f"The first {shown:,} of {known:,} nodules. "
    masked = "What lies outside the scan sector is blanked. " if content["masked"] else ""
    title = f"{content['name']}: frames, boxes and windows"
    lead = (
        f"{part}{shown:,} nodules in {len(content['frames']):,} frames of "
        f"{content['n_patients']:,} patients; source {content['source']}, {content['subject']}. "
        f"{masked}{_BORDERS[content['border']]}. "
        "Pictures are reduced JPEG copies; lengths are in pixels of the frame."
    )
    return _PAGE.format(
        title=escape(title),
        lead=escape(lead),
        style=_packaged("sheet.css"),
        script=_packaged("sheet_query.js") + _packaged("sheet.js"),
        data=script_json(content),
        controls=_controls(content),
        keys=_ARIA_KEYS,
    )


def script_json(content: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _packaged(name: str) -> str:
    return files("thyrojax.data").joinpath(name).read_text(encoding="utf-8")


def _controls(content: dict[str, Any]) -> str:
    """The form: what is looked for, in which order, and what is drawn."""
    entries = content["entries"]
    look_for = [
        '<label class="search">Image or patient<input type="search" name="q" '
        'autocomplete="off" spellcheck="false"></label>',
        _select("label", "Label", [("", "any"), *_numbered(content["labels"])]),
    ]
    for place, feature in enumerate(content["features"]):
        options = [("", "any"), *_numbered(feature["words"])]
        if any(entry["features"][place] < 0 for entry in entries):
            options.append(("-1", "not stated"))
        name = feature["name"]
        look_for.append(_select(f"f{place}", name[:1].upper() + name[1:], options))
    if any(entry["reader"] is not None for entry in entries):
        options = [("", "any"), *_numbered(content["labels"]), ("-1", "not stated")]
        look_for.append(_select("reader", "Reader\N{RIGHT SINGLE QUOTATION MARK}s call", options))
    look_for += [
        _select(
            "tall",
            "Box",
            [("", "any"), ("taller", "taller than wide"), ("wider", "not taller than wide")],
        ),
        _select(
            "cut",
            "Window",
            [
                ("", "any"),
                ("cut", "cuts the nodule"),
                ("outside", "leaves the frame"),
                ("whole", "does neither"),
            ],
        ),
        _select("sort", "Sort by", _SORTS),
    ]
    shapes = [(shape, shape.replace("_", " ")) for shape in content["shapes"]]
    if len(shapes) > 1:
        shapes.append(("all", f"all {len(shapes)}"))
    middle = content["margins"][len(content["margins"]) // 2]
    margins = [(str(margin), f"{margin} {content['unit']}") for margin in content["margins"]]
    drawn = [
        _select("margin", "Margin", margins, str(middle)),
        _select("shape", "Shape of the window", shapes),
        *(
            f'<label class="tick"><input type="checkbox" name="{name}" checked>{words}</label>'
            for name, words in _LAYERS
        ),
    ]
    return (
        f"<fieldset><legend>Show</legend>{''.join(drawn)}</fieldset>\n"
        f'<details id="filters" open><summary>Filter and sort</summary>\n'
        f'<div class="filters">{"".join(look_for)}<button type="reset">Clear</button></div>'
        "</details>"
    )


def _numbered(words: list[str]) -> list[tuple[str, str]]:
    return [(str(number), word.replace("_", " ")) for number, word in enumerate(words)]


def _select(name: str, label: str, options: Any, chosen: str = "") -> str:
    items = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>'
        f"{escape(words)}</option>"
        for value, words in options
    )
    return f'<label>{escape(label)}<select name="{name}">{items}</select></label>'


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#sheet">Skip to the frames</a>
<header>
<h1>{title}</h1>
<p>{lead}</p>
</header>
<form id="controls" aria-label="What the sheet shows">
{controls}
</form>
<main>
<h2 class="hidden">Frames</h2>
<p class="bar"><span id="count" role="status"></span>
<button type="button" id="print">Print</button></p>
<p class="hidden" id="keys">{keys}</p>
<noscript><p>This page needs JavaScript, which runs from this file alone.</p></noscript>
<ul id="sheet" role="list" aria-label="Nodules" aria-describedby="keys" tabindex="-1"></ul>
<p id="none" hidden>No nodule fits these filters.</p>
</main>
<dialog id="one" aria-labelledby="one-name">
<div class="head">
<h2 id="one-name" tabindex="-1"></h2>
<div class="walk">
<label>Margin<select id="one-margin"></select></label>
<button type="button" id="before">Previous</button>
<button type="button" id="after">Next</button>
<button type="button" id="close">Close</button>
</div>
</div>
<div class="body">
<div id="one-frame"></div>
<dl id="one-facts"></dl>
<div id="one-inputs"></div>
</div>
</dialog>
<template id="card"><li><button type="button" class="card">
<span class="picture"><img alt="" decoding="async"></span>
<span class="line name"><span class="id"></span> <span class="patient"></span></span>
<span class="line label"></span><span class="line what"></span><span class="line note"></span>
</button></li></template>
<script type="application/json" id="data">{data}</script>
<script>(() => {{
"use strict";
{script}}})();</script>
</body>
</html>
"""
