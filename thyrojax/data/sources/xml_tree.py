"""XML files of annotations, which come from anywhere: nothing in one can exhaust the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from thyrojax.errors import Fault

LARGEST_BYTES = 1 << 20  # hundreds of outlined nodules are 100 kB
DEEPEST = 32  # elements within elements; VOC has four, DDTI three


class _Refused(Exception):
    """Something that no annotation has and a harmful file may have."""


def read_tree(file: Path, expected: str, faults: list[Fault]) -> Element | None:
    """The root element; None beside a fault, whose `expected` says what plain file was looked for.

    Entities cannot be declared, so that no file grows when it is read.
    """
    builder = TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise _Refused(f"elements nested more than {DEEPEST} deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: Any) -> None:
        raise _Refused("a document type declaration")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise _Refused(f"more than {LARGEST_BYTES} bytes")
        parser.Parse(content, True)
        return builder.close()
    except _Refused as refused:
        faults.append(Fault(str(file), "", str(refused), expected))
    except (OSError, expat.ExpatError, ValueError, LookupError) as error:
        reason = str(error).partition("\n")[0]
        found = f"unreadable XML ({reason})"
        faults.append(Fault(str(file), "", found, "a well-formed XML file"))
    return None
