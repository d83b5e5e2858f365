"""Whole image files as networks take them: decoded and resized."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from thyrojax.errors import DataError
from thyrojax.shapes import UInt8


def load_colour_image(
    path: Path, size: int, square: bool = False
) -> UInt8[np.ndarray, "size size 3"]:
    """An image file as RGB, resized to `size` px (bilinear, half-pixel, not antialiased).

    Args:
      square: cuts the central square out of it first, so that nothing changes its shape.

    Raises:
      DataError: the file is missing or cannot be decoded.
    """
    import cv2

    try:
        encoded = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: found {error.strerror}, expected an image") from None
    try:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if encoded.size else None
    except cv2.error:  # more pixels than OpenCV allows
        image = None
    if image is None:
        raise DataError(f"{path}: found a file that cannot be decoded, expected an image")
    if square:
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    if image.shape[:2] == (size, size):
        return image
    resized = cv2.resize(image.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    return resized.round().astype(np.uint8)
