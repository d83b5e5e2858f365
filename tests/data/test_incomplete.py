"""What a build that was killed may go on with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thyrojax.data.incomplete import digest
from thyrojax.data.records import Box, Nodule, SourceData


@dataclass(frozen=True)
class FrameOfFile:
    """As the frames of DICOM and of LabelMe's own images: a file is one of its fields."""

    path: Path
    index: int

    def __call__(self) -> np.ndarray:
        return np.zeros((8, 8), np.uint8)


def test_a_file_behind_a_frame_that_has_changed_is_another_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(b"a name burnt in")
    nodule = Nodule(FrameOfFile(path, 0), "a", "p", Box(0, 0, 4, 4), 0)
    data = SourceData("dicom", (nodule,), (), n_images=1)
    before = digest(data, False)
    assert digest(data, False) == before
    path.write_bytes(b"blanked")
    assert digest(data, False) != before
