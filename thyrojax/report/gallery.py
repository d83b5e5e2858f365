"""The sections on single nodules: how they are cut, the surest calls, where the maps lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.analysis.cutoff import call_positive
from thyrojax.errors import RunError
from thyrojax.report.figures import TIMES, Rendered, render
from thyrojax.report.markup import figure, paragraph, plural, section, table
from thyrojax.report.run_examples import Example, Explanation, Four
from thyrojax.report.run_figures import (
    Cut,
    box_in_input,
    draw_crop_shapes,
    draw_example,
    draw_mass_in_box,
)
from thyrojax.report.run_folder import Run
from thyrojax.shapes import Bool, Float, UInt8

MOST_SHOWN = 40  # a page of pictures beyond that nobody can open


def draw_gallery(run: Run, cutoff: float) -> dict[str, Rendered]:
    """The pictures of crop shapes, of the nodules shown, and of where the maps lie."""
    drawn = {}
    if run.crop_shapes is not None:
        shapes = run.crop_shapes
        cuts = [
            Cut(
                name.replace("_", " "),
                crop.window,
                _read_grey(crop.network_input),
                crop.aspect_ratio,
            )
            for name, crop in shapes.crops.items()
        ]
        frame = _read_grey(shapes.frame)
        drawn["crop_shapes"] = render(
            draw_crop_shapes, frame, shapes.box, shapes.aspect_ratio, cuts
        )
    for number, example in _shown(run, cutoff):
        drawn[f"example_{number}"] = _draw_example(example)
    for number, rows in enumerate(_by_method(run).values(), start=1):
        masses, shares, right = _arrays(rows, cutoff)
        if len(masses):
            drawn[f"mass_in_box_{number}"] = render(
                draw_mass_in_box, masses, shares, right, run.data.unit
            )
    return drawn


def crop_shapes(run: Run, drawn: dict[str, Rendered]) -> str:
    """One nodule in every crop shape, and what each does to its shape (Figures 2 and 3)."""
    shapes = run.crop_shapes
    if shapes is None:
        text = (
            "No comparison of crop shapes: `thyrojax evaluate` has not written crop_shapes.json "
            "into this run."
        )
        return section("crop", "Crop", paragraph(text))
    used = run.config.get("crop_shape")
    rows = []
    for name, crop in shapes.crops.items():
        change = crop.aspect_ratio / shapes.aspect_ratio
        width, height = crop.window[2:]
        rows.append(
            [
                name.replace("_", " ") + (" (this run)" if name == used else ""),
                f"{width:g}{TIMES}{height:g}",
                f"{shapes.aspect_ratio:.2f}",
                f"{crop.aspect_ratio:.2f}",
                ("kept" if abs(change - 1) < 0.02 else f"changed by {100 * (change - 1):+.0f} %")
                + ("" if _holds(crop.window, shapes.box) else ", cut off"),
            ]
        )
    truth = run.data.label_names[shapes.label]
    return section(
        "crop",
        "Crop",
        paragraph(
            f"One {run.data.unit}, {shapes.image_id} ({truth}), cut with a margin of "
            f"{shapes.margin:g} px in every shape. The square is as high as it is wide, with the "
            "margin left and right (Guan et al. 2019); the rectangle has the margin on all sides; "
            "the square cover leaves nothing out. A window that is not square changes the "
            f"{run.data.unit}'s shape as it is resized to the square input, and taller than wide "
            "is a sign that readers look for."
        ),
        paragraph(shapes.choice) if shapes.choice else "",
        figure(
            drawn["crop_shapes"],
            f"The frame of {shapes.image_id} with its box and each window, and beside each the "
            "network's input. The table below has the ratios.",
            "Left: the annotated box (solid blue) and the window (dashed orange); right: the "
            "network's input (Guan et al. 2019, figures 2 and 3).",
            vector=False,
        ),
        table(
            f"Height over width of the {run.data.unit} before and after the resize",
            ["Shape of the window", "Window (px)", "In the frame", "In the input", "Its shape"],
            rows,
        ),
    )


def _holds(window: Four, box: Four) -> bool:
    left, top, width, height = window
    x_min, y_min, x_max, y_max = box
    return left <= x_min and top <= y_min and x_max <= left + width and y_max <= top + height


def examples(run: Run, summary: dict[str, Any], drawn: dict[str, Rendered]) -> str:
    """Confident calls, wrong ones first, with where the network's map lies."""
    if not run.examples:
        text = "No examples: `thyrojax evaluate` has not written examples.json into this run."
        return section("examples", "Examples", paragraph(text))
    shown = _shown(run, summary["cutoff"])
    groups: dict[bool, list[str]] = {False: [], True: []}
    for number, example in shown:
        right = _is_right(example, summary["cutoff"])
        groups[right].append(_example(run, example, right, drawn[f"example_{number}"]))
    parts = [
        paragraph(
            "The most confident calls of each class, not a random sample. Solid blue: the "
            "annotated box; dashed orange: the window cut for the network. Grey around a frame is "
            "not part of it."
        ),
        paragraph(_map_sentence(run, [example for _, example in shown])),
    ]
    if len(shown) < len(run.examples):
        parts.append(paragraph(f"{len(shown)} of {len(run.examples)} are shown."))
    for right, heading in ((False, "Wrong calls"), (True, "Right calls")):
        parts.append(f"<h3>{heading}</h3>")
        if groups[right]:
            parts.append(f'<div class="figures wide">\n{"".join(groups[right])}\n</div>')
        else:
            parts.append(paragraph("None among the examples."))
    return section("examples", "Examples", *parts)


def explanations(run: Run, summary: dict[str, Any], drawn: dict[str, Rendered]) -> str:
    """How much of the maps lies in the box, against chance, and what that does not show."""
    if not run.explanations:
        text = "No figures of explanations: `thyrojax explain` has not been run on the test part."
        return section("explanations", "Explanations", paragraph(text))
    parts = [
        paragraph(
            "For each map, the share of its mass that lies in the annotated box. An even map would "
            "have the box's own share of the input there: that is chance."
        )
    ]
    for number, ((method, layer), rows) in enumerate(_by_method(run).items(), start=1):
        name = f"{method} at {layer}"
        if f"mass_in_box_{number}" in drawn:
            parts.append(
                figure(
                    drawn[f"mass_in_box_{number}"],
                    f"Each {run.data.unit}'s mass in the box against the box's share, and both "
                    f"distributions, for {name}. The table below has the medians.",
                    f"Mass of the map in the box against chance, {name}.",
                )
            )
        parts.append(_mass_table(run, name, rows, summary["cutoff"]))
    parts.append(_sanity(run))
    parts.append(
        paragraph(
            "What this does not prove: a map inside the box does not show that the network judged "
            "by what a reader would judge by, nor that the call is right; a map outside it may "
            "follow tissue around the box that matters. Windows are centred on the box, so a map "
            "that only prefers the middle is above chance too."
        )
    )
    return section("explanations", "Explanations", *parts)


def _is_right(case: Example | Explanation, cutoff: float) -> bool:
    return bool(call_positive(np.array([case.score]), cutoff)[0]) == bool(case.label)


def _shown(run: Run, cutoff: float) -> list[tuple[int, Example]]:
    """The examples that the page has room for, numbered: wrong calls first, the surest first."""
    numbered = list(enumerate(run.examples, start=1))
    numbered.sort(key=lambda pair: (_is_right(pair[1], cutoff), -abs(pair[1].score - cutoff)))
    return numbered[:MOST_SHOWN]


def _draw_example(example: Example) -> Rendered:
    frame, network_input = _read_grey(example.frame), _read_grey(example.network_input)
    inside = example.box_in_input or box_in_input(example.box, example.window, network_input.shape)
    heat = None if example.map is None else _read_grey(example.map)
    if heat is not None and heat.shape != network_input.shape:
        raise RunError(
            f"{example.map}: found {heat.shape[1]}x{heat.shape[0]} px, expected the input's "
            f"{network_input.shape[1]}x{network_input.shape[0]} px"
        )
    return render(draw_example, frame, network_input, example.box, example.window, inside, heat)


def _read_grey(path: Path) -> UInt8[np.ndarray, "height width"]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError):
        raise RunError(f"{path}: found no readable image, expected an example's PNG") from None


def _example(run: Run, example: Example, right: bool, rendered: Rendered) -> str:
    called = example.label if right else 1 - example.label
    truth, call = run.data.label_names[example.label], run.data.label_names[called]
    words = f"{example.image_id}: {truth}, called {call} at score {example.score:.3f}."
    if example.map is not None:
        mass = example.mass_in_box
        words += " The map is 0 everywhere." if mass is None else f" Mass in box {mass:.2f}."
    also = ", and the map over it" if example.map is not None else ""
    alternative = f"Ultrasound frame with box and window, and the network's input{also}. {words}"
    return figure(rendered, alternative, words, vector=False)


def _map_sentence(run: Run, shown: list[Example]) -> str:
    layers = sorted({example.map_layer for example in shown if example.map is not None})
    if not layers:
        return "No maps: `thyrojax evaluate` has not written any into this run."
    where = ", ".join(layer for layer in layers if layer)
    return (
        f"The map (Grad-CAM{f' at {where}' if where else ''}) shows what spoke for the class that "
        "was called: violet little, yellow most, and the white line at half of the most. Mass in "
        "box is the share of the map inside the annotated box."
    )


def _by_method(run: Run) -> dict[tuple[str, str], list[Explanation]]:
    groups: dict[tuple[str, str], list[Explanation]] = {}
    for row in run.explanations:
        groups.setdefault((row.method, row.layer), []).append(row)
    return groups


def _arrays(
    rows: list[Explanation], cutoff: float
) -> tuple[Float[np.ndarray, " maps"], Float[np.ndarray, " maps"], Bool[np.ndarray, " maps"]]:
    """Mass in the box, the box's share and whether the call is right, of the rows with a map."""
    mapped = [row for row in rows if row.mass_in_box is not None]
    return (
        np.array([row.mass_in_box for row in mapped], np.float64),
        np.array([row.box_share for row in mapped], np.float64),
        np.array([_is_right(row, cutoff) for row in mapped], bool),
    )


def _mass_table(run: Run, name: str, rows: list[Explanation], cutoff: float) -> str:
    groups = [("all", rows)]
    for label, words in enumerate(run.data.label_names):
        groups.append((words, [row for row in rows if row.label == label]))
    for right, words in ((True, "right calls"), (False, "wrong calls")):
        groups.append((words, [row for row in rows if _is_right(row, cutoff) == right]))
    body = []
    for words, chosen in groups:
        masses, shares, _ = _arrays(chosen, cutoff)
        above = int((masses > shares).sum())
        body.append(
            [
                words,
                len(masses),
                _quartiles(masses),
                _quartiles(shares),
                f"{above} ({100 * above / len(masses):.0f} %)" if len(masses) else "no map",
                len(chosen) - len(masses),
            ]
        )
    caption = (
        f"Mass of the map in the box, {name}, on {plural(len(rows), run.data.unit)} of the test "
        "part: median (quartiles)"
    )
    header = ["Group", "Maps", "Mass in box", "Box's share", "Above chance", "Without a map"]
    return table(caption, header, body)


def _quartiles(values: Float[np.ndarray, " n"]) -> str:
    if not len(values):
        return "no map"
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _sanity(run: Run) -> str:
    """Whether the maps depend on what was learned: the randomisation check."""
    if not run.sanity:
        return paragraph(
            "Whether the maps change when the weights are made random (Adebayo et al. 2018) was "
            "not checked: `thyrojax explain RUN --sanity` does so."
        )
    rows = [
        [
            step.layer,
            "no map left" if step.rank_correlation is None else f"{step.rank_correlation:.2f}",
            step.n,
        ]
        for step in run.sanity
    ]
    caption = (
        "Rank correlation of the maps with those of the network whose layers, from the head down "
        "to this one, were made random (Adebayo et al. 2018): near 0 where a map depends on them"
    )
    return table(caption, ["Random down to", "Rank correlation", "Maps"], rows)
