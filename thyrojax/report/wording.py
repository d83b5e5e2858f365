"""Numbers and sentences as the checklists and the model card write them."""

from __future__ import annotations

from thyrojax.report.facts import Facts

# Name in metrics.json, as readers call it, and whether it is printed as a share of a hundred.
MEASURES = (
    ("auc", "AUC", False),
    ("accuracy", "accuracy", True),
    ("sensitivity", "sensitivity", True),
    ("specificity", "specificity", True),
    ("ppv", "positive predictive value", True),
    ("npv", "negative predictive value", True),
)


def percent(share: float) -> str:
    """A share of 1 as a share of a hundred."""
    return f"{100 * share:.1f} %"


def plain(value: object) -> str:
    """A value of config.json: a number without trailing zeros, anything else as it stands."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if is_number else str(value)


def capital(text: str) -> str:
    """Text that begins with a capital."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Text that begins with a capital and ends with a full stop."""
    text = capital(text.strip())
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def measured(facts: Facts, name: str, title: str, of_hundred: bool) -> str | None:
    """A measure with its interval, "AUC 0.948 (95 % CI 0.913 to 0.969)"; None without a value."""
    value = facts.figure(name)
    if value is None:
        return None
    shown = percent(value) if of_hundred else f"{value:.3f}"
    ends = facts.interval(name)
    if ends is None:
        return f"{title} {shown} (no interval)"
    low, high = (100 * end if of_hundred else end for end in ends[:2])
    return (
        f"{title} {shown} (95 % CI {low:.1f} to {high:.1f} %)"
        if of_hundred
        else f"{title} {shown} (95 % CI {low:.3f} to {high:.3f})"
    )
