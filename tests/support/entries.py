"""Nodules to look at, as tests need them."""

from __future__ import annotations

from typing import Any

from thyrojax.data.looking import Entry
from thyrojax.data.records import Box


def an_entry(number: int = 0, **fields: Any) -> Entry:
    """A nodule with the number in its ids; patients have two each, one of them malignant."""
    values: dict[str, Any] = {
        "image_id": f"image-{number}",
        "patient_id": f"patient-{number // 2}",
        "box": Box(30, 20, 70, 50),
        "label": number % 2,
        "size_mm": None,
        "tirads": None,
        "composition": None,
        "echogenicity": None,
        "calcification": None,
        "margin": None,
        "shape": None,
        "pixel_spacing_mm": None,
        "reader_label": None,
        "height": 90,
        "width": 120,
        "frame_key": f"frame-{number}",
    }
    return Entry(**(values | fields))
