"""Digests of the files of checkpoints, so that damage is found before Orbax reads any of it.

Orbax makes a checkpoint visible by a rename in its own thread. What seals it is written after that,
and a kill may come in between: of a checkpoint without a seal only the leaves can be checked.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from thyrojax import processes
from thyrojax.files import write_json
from thyrojax.train.digests import is_sealed, sealed

SEAL = "files.json"


def seal_files(checkpoints: Path) -> None:
    """Writes files.json into every checkpoint that has none, while none is being saved or removed.

    Of several processes the first one does.
    """
    if processes.is_first():
        for folder in sorted(checkpoints.glob("[0-9]*")):
            if folder.name.isdecimal() and not (folder / SEAL).exists():
                write_json(folder / SEAL, sealed({"files": _digests(folder)}))


def damaged_files(folder: Path) -> str:
    """What is wrong with a checkpoint's files, as "found ..., expected ..."; "" where nothing is.

    Nothing is wrong with one that has no seal.
    """
    path = folder / SEAL
    if not path.exists():
        return ""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        content = None
    if not is_sealed(content):
        return f"found a {SEAL} that is not as it was written, expected one as it was"
    expected, found = content["files"], _digests(folder)
    wrong = sorted(name for name in expected if found.get(name) != expected[name])
    if not wrong:
        return ""
    return (
        f"found {len(wrong)} of {len(expected)} files that are not as they were saved (the first "
        f"is {wrong[0]}), expected all as {SEAL} has them"
    )


def _digests(folder: Path) -> dict[str, str]:
    """sha256 of each file but the seal itself, by its path in the folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    paths = [path for path in paths if path != folder / SEAL]
    with ThreadPoolExecutor() as threads:  # hashing lets go of the interpreter's lock
        digests = list(threads.map(_digest, paths))
    names = [path.relative_to(folder).as_posix() for path in paths]
    return dict(zip(names, digests, strict=True))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
