"""What libraries say on their own, kept from the commands' output."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path


def quieten_libraries() -> None:
    """Libraries' own chatter off, unless the environment asks for it."""
    # Pillow and others warn on damaged files; our own line says what matters.
    warnings.simplefilter("ignore")
    logging.getLogger("absl").setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "thyrojax" / "xla"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
