"""Renders the README's sheet of phantom frames.

    python tools/render_phantom_sheet.py [--out docs/phantom_sheet.png]

Nine patients of seed 0, each the first to show the features of its place; boxes on the middle row.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from thyrojax.data.records import LABELS, Nodule, load_image
from thyrojax.data.sources.phantom import read

WANTED: tuple[dict[str, str], ...] = (
    {"margin": "smooth", "echogenicity": "hypoechoic", "composition": "solid"},
    {"composition": "spongiform", "echogenicity": "isoechoic", "calcification": "none"},
    {"margin": "ill_defined", "shape": "taller", "calcification": "none"},
    {"calcification": "micro", "margin": "irregular"},
    {"margin": "ete", "echogenicity": "hypoechoic", "calcification": "none"},
    {"calcification": "macro"},
    {"margin": "halo"},
    {"echogenicity": "isoechoic", "margin": "smooth", "composition": "solid"},
    {"calcification": "comet_tail"},
)
COLUMNS = 3
TILE_WIDTH, TILE_HEIGHT, CAPTION = 336, 252, 17
BOX_COLOUR = (255, 205, 60)
GREYS = 48  # levels kept in the file: half the bytes, and hardly an eye sees the difference


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/phantom_sheet.png"))
    out: Path = parser.parse_args().out
    nodules = read(n_patients=1200).nodules
    rows = -(-len(WANTED) // COLUMNS)
    sheet = Image.new(
        "RGB", (COLUMNS * (TILE_WIDTH + 4), rows * (TILE_HEIGHT + CAPTION + 4)), "white"
    )
    for place, words in enumerate(WANTED):
        row, column = divmod(place, COLUMNS)
        tile = _tile(_first(nodules, words), with_box=row == 1)
        sheet.paste(tile, (column * (TILE_WIDTH + 4) + 2, row * (TILE_HEIGHT + CAPTION + 4) + 2))
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.part")
    palette = Image.new("P", (1, 1))
    greys = np.linspace(0, 255, GREYS).round().astype(int)
    palette.putpalette([*BOX_COLOUR, *np.repeat(greys, 3).tolist()])
    sheet.quantize(palette=palette, dither=Image.Dither.NONE).save(unfinished, "PNG", optimize=True)
    os.replace(unfinished, out)
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


def _first(nodules: tuple[Nodule, ...], words: dict[str, str]) -> Nodule:
    """The first nodule with these features and at least 8 mm: smaller ones are lost in a tile."""
    for nodule in nodules:
        fits = all(getattr(nodule, name) == word for name, word in words.items())
        if fits and (nodule.size_mm or 0) >= 8:
            return nodule
    raise SystemExit(f"no patient shows {words}")


def _tile(nodule: Nodule, with_box: bool) -> Image.Image:
    frame = load_image(nodule.image)
    scale = np.array([TILE_WIDTH / frame.shape[1], TILE_HEIGHT / frame.shape[0]])
    tile = Image.new("RGB", (TILE_WIDTH, TILE_HEIGHT + CAPTION), "white")
    small = Image.fromarray(frame).resize((TILE_WIDTH, TILE_HEIGHT), Image.Resampling.BICUBIC)
    tile.paste(small.convert("RGB"), (0, 0))
    draw = ImageDraw.Draw(tile)
    if with_box:
        corners = np.array(nodule.box).reshape(2, 2) * scale
        draw.rectangle(corners.ravel().tolist(), outline=BOX_COLOUR)
    features = [nodule.composition, nodule.echogenicity, nodule.margin, nodule.shape]
    if nodule.calcification != "none":
        features.append(nodule.calcification)
    words = ", ".join(str(word).replace("_", " ") for word in features)
    caption = f"{LABELS[nodule.label]} {nodule.size_mm} mm, {words}"
    draw.text((2, TILE_HEIGHT + 2), caption, fill="black")
    return tile


if __name__ == "__main__":
    main()
