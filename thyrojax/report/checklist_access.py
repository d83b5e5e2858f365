"""Answers to checklist items on where code, data, model and outputs are."""

from __future__ import annotations

from thyrojax.report.facts import Facts
from thyrojax.report.markup import plural


def technical_details(facts: Facts) -> str | None:
    """Where the whole configuration is."""
    if facts.config is None:
        return None
    return (
        "Every option is in config.json, every case's part in split.csv, every test score in "
        "predictions/test.csv of the run folder."
    )


def data_access(facts: Facts) -> str | None:
    """What identifies the data."""
    if facts.source is None or not facts.fingerprint:
        return None
    how = "built in, nothing to fetch" if facts.source == "phantom" else f"source {facts.source}"
    return f"Data: {how}; fingerprint of the built set {facts.fingerprint}."


def code_access(facts: Facts) -> str | None:
    """The program and its licence."""
    version = (facts.versions or {}).get("thyrojax")
    return None if not version else f"Code: thyrojax {version}, licence Apache-2.0."


def availability(facts: Facts) -> str | None:
    """Code and data together."""
    told = [answer for answer in (code_access(facts), data_access(facts)) if answer]
    return " ".join(told) if len(told) == 2 else None


def model_access(facts: Facts) -> str | None:
    """Where the model is and how it is used."""
    if facts.config is None:
        return None
    return (
        "The checkpoints and config.json of the run folder are the whole model; `thyrojax predict` "
        "applies it to a new image, `thyrojax weights convert` writes it for other frameworks."
    )


def audit(facts: Facts) -> str | None:
    """What is kept of the outputs."""
    if facts.config is None or facts.count("n") is None:
        return None
    return (
        f"Kept: the score of each of the {plural(facts.count('n') or 0, facts.unit)} of the test "
        "part (predictions/test.csv), the parts, the configuration and the training log."
    )
