"""The answers that a checklist's items and the model card may name."""

from __future__ import annotations

from collections.abc import Callable

from thyrojax.report import checklist_access, checklist_data, checklist_model, checklist_results
from thyrojax.report.facts import Facts

Answer = Callable[[Facts], str | None]

ANSWERS: dict[str, Answer] = {
    name: value
    for module in (checklist_data, checklist_model, checklist_results, checklist_access)
    for name, value in vars(module).items()
    if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
}
