"""Every format of weights into every other: what comes back, and what the new file computes.

    python tools/weights_matrix.py FILE... [--out docs/weights_matrix.md]

Each FILE (named NAME=FILE where its format's name is not enough) is converted to every format that
can be written. A cell is the largest difference of pooled features and logits between source and
target on two probe images, relative to the largest value; "=" says that every array comes back bit
for bit. Exports are run by onnxruntime and by the deserialised StableHLO artefact; other targets by
our network under what the target's own class computes, which the parity tests hold to that class.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from thyrojax import weights
from thyrojax.errors import WeightsError
from thyrojax.weights import store
from thyrojax.weights.convert import Conversion


def cell(done: Conversion) -> str:
    """One conversion in a few characters."""
    largest = max(done.probe.values())
    text = "0" if largest == 0 else f"{largest:.0e}"
    module = store.choose_format(done.target, done.format)
    if not hasattr(module, "run"):
        back = weights.read(done.target)
        found = weights.compare(done.source, back, probe=False)
        if all(leaf.state == "equal" for leaf in found.leaves):
            text += " ="
    if any("computes another function" in note for note in done.notes):
        text += " (class)"
    return text


def row(source: str, folder: Path) -> list[str]:
    """All conversions of one file, in the order of `store.writable`."""
    cells = []
    for name, module in store.writable().items():
        target = folder / f"target{module.ENDING}"
        try:
            done = weights.convert(source, target, name, overwrite=True)
            cells.append(cell(done))
        except WeightsError as error:
            cells.append(f"refused: {error}")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="[NAME=]FILE")
    parser.add_argument("--out", type=Path, metavar="FILE.md")
    args = parser.parse_args()
    lines = [
        "| from \\ to | " + " | ".join(store.writable()) + " |",
        "|---" * (1 + len(store.writable())) + "|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for argument in args.files:
            name, _, file = argument.rpartition("=")
            name = name or store.recognise(Path(file)).NAME
            lines.append(f"| {name} | " + " | ".join(row(file, Path(folder))) + " |")
            print(lines[-1], flush=True)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
