"""Run by test_beam.py in an environment with Apache Beam: one source, built both ways.

Its arguments are a folder of images, a folder for the two sets, `plain` and `beam`, and options of
Beam's.
"""

from __future__ import annotations

import sys
from pathlib import Path

from thyrojax.data.builder import build
from thyrojax.data.records import Box, Exclusion, Nodule, SourceData


def main() -> None:
    images, out, *options = sys.argv[1:]
    nodules = tuple(
        Nodule(path, path.stem, path.stem[:3], Box(1, 2, 20, 12), number % 2)
        for number, path in enumerate(sorted(Path(images).iterdir()))
    )
    data = SourceData("csv", nodules, (Exclusion("x", "no box"),), len(nodules) + 1, ("A note.",))
    build(data, Path(out) / "plain", mask_overlay=True)
    build(
        data,
        Path(out) / "beam",
        mask_overlay=True,
        beam_runner="DirectRunner",
        beam_options=options,
    )


if __name__ == "__main__":
    main()
