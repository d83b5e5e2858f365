"""A few crops as the network gets them, each with what is known of it, as one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from thyrojax.shapes import Float, Int, Num, UInt8

COLUMNS = 4
CAPTION_HEIGHT = 18  # px, under each crop
GAP = 4  # px between crops


class Crops(NamedTuple):
    """Some rows of a training batch: what was cut, before it is normalised."""

    image: Num[np.ndarray, "rows size size 1"]  # in 0..255, tones changed beyond it included
    label: Int[np.ndarray, " rows"]
    target: Float[np.ndarray, " rows"]  # share of malignant: the label, but where rows are mixed
    margin: Int[np.ndarray, " rows"]  # px


def captions(crops: Crops, label_names: Sequence[str]) -> list[str]:
    """What is said under each crop: its margin, then its label or the share of malignant."""
    return [
        f"{margin} px "
        + (label_names[label] if target == label else f"{target:.2f} {label_names[1]}")
        for label, target, margin in zip(
            crops.label.tolist(), crops.target.tolist(), crops.margin.tolist(), strict=True
        )
    ]


def draw_sheet(
    images: Num[np.ndarray, "rows size size 1"], captions: Sequence[str]
) -> UInt8[np.ndarray, "height width"]:
    """Crops in rows of four, pixel for pixel, each with its caption under it.

    Values are rounded and clipped to 0..255. Captions are cut at the crop's width; letters that the
    font lacks (it has ASCII) are drawn as question marks.
    """
    import cv2

    rows, size = images.shape[:2]
    columns = min(COLUMNS, rows)
    height, width = size + CAPTION_HEIGHT + GAP, size + GAP
    sheet = np.zeros((math.ceil(rows / columns) * height - GAP, columns * width - GAP), np.uint8)
    crops = np.clip(np.rint(images[..., 0]), 0, 255).astype(np.uint8)
    for number, (crop, caption) in enumerate(zip(crops, captions, strict=True)):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + size, left : left + size] = crop
        strip = np.zeros((CAPTION_HEIGHT, size), np.uint8)
        text = caption.encode("ascii", "replace").decode()
        cv2.putText(strip, text, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1, cv2.LINE_AA)
        sheet[top + size : top + size + CAPTION_HEIGHT, left : left + size] = strip
    return sheet
