"""Decoded frames kept in memory: as many as fit, the first that come, none ever given up.

Training reads every frame once an epoch in a random order, so that giving up an old frame for a new
one would save nothing: the chance that a frame is there is the same, and it would have to be
decoded again.
"""

from __future__ import annotations

import threading

import numpy as np

from thyrojax.shapes import UInt8


class FrameCache:
    """Frames by a key that says what is in them. Safe to use from several threads."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes that the frames may have together; 0 = keep none."""
        self.limit = limit
        self.bytes = 0  # that they have
        self._frames: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._frames)

    def get(self, key: str) -> UInt8[np.ndarray, "height width"] | None:
        """The frame that is kept under `key`, read-only."""
        return self._frames.get(key)

    def has_room(self, size: int) -> bool:
        """Whether a frame of `size` bytes would be kept if it were there now."""
        return self.bytes + size <= self.limit

    def keep(
        self, key: str, frame: UInt8[np.ndarray, "height width"]
    ) -> UInt8[np.ndarray, "height width"]:
        """Keeps a frame if there is room; returns the one that is kept under `key`, or `frame`.

        A frame that is kept becomes read-only.
        """
        with self._lock:
            kept = self._frames.get(key)
            if kept is not None:
                return kept
            if self.has_room(frame.nbytes):
                frame.setflags(write=False)
                self._frames[key] = frame
                self.bytes += frame.nbytes
        return frame
