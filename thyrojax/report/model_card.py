"""The model card of a run or an analysis, after Mitchell et al. 2019 (doi 10.1145/3287560.3287596).

Every entry is what the files show; where they show nothing it is a blank with a name.
"""

from __future__ import annotations

from typing import NamedTuple

from thyrojax.analysis.study import Study
from thyrojax.report.checklist import blank
from thyrojax.report.checklist_answers import ANSWERS
from thyrojax.report.facts import Facts, collect_facts
from thyrojax.report.markup import escaped, section
from thyrojax.report.run_folder import Run

TITLE = "Model card"
_CITED = (
    "Form: Mitchell M, Wu S, Zaldivar A, et al. Model cards for model reporting. FAT* 2019: "
    "220-229. doi 10.1145/3287560.3287596"
)


class Entry(NamedTuple):
    """One line of the card: its text, or what the authors must state there."""

    name: str
    text: str
    to_state: str


def model_card(run: Run | None = None, study: Study | None = None) -> str:
    """The model card as a section of the report."""
    parts = []
    for title, entries in card_entries(collect_facts(run, study)):
        lines = "\n".join(
            f"<dt>{escaped(name)}</dt>\n<dd>{escaped(text) or blank(to_state)}</dd>"
            for name, text, to_state in entries
        )
        parts.append(f'<h3>{escaped(title)}</h3>\n<dl class="card">\n{lines}\n</dl>')
    return section("model-card", TITLE, *parts, f'<p class="note">{escaped(_CITED)}</p>')


def model_card_markdown(run: Run | None = None, study: Study | None = None) -> str:
    """The model card as Markdown, for a file beside the weights."""
    lines = [f"# {TITLE}", ""]
    for title, entries in card_entries(collect_facts(run, study)):
        lines += [f"## {title}", ""]
        for entry in entries:
            text = entry.text or f"_________ (for the authors: {entry.to_state})"
            lines.append(f"- **{entry.name}.** {_markdown(text)}")
        lines.append("")
    return "\n".join([*lines, _CITED, ""])


def card_entries(facts: Facts) -> list[tuple[str, list[Entry]]]:
    """The card's sections in their order, each with its entries."""
    return [
        (
            "Model details",
            [
                _entry("Name", _name(facts), "name and version of the model"),
                _answered(facts, "Kind", "technology", "kind of model"),
                _answered(facts, "Architecture", "architecture", "architecture"),
                _answered(facts, "Initial weights", "initial_weights", "initial weights"),
                _answered(facts, "Training", "training", "training recipe"),
                _answered(facts, "Software", "software", "software with versions"),
                _entry("Licence", _licence(facts), "licence of the model"),
                _entry("Contact", None, "people and date, where to write to"),
            ],
        ),
        (
            "Intended use",
            [
                _answered(facts, "Output", "output", "what the model gives"),
                _entry("Intended use", None, "purpose, users, step of care"),
                _entry("Not for", _out_of_scope(facts), "uses that are out of scope"),
            ],
        ),
        (
            "Factors",
            [
                _answered(facts, "Cases of each part", "characteristics", "groups in the data"),
                _entry("Features stated", _features(facts), "sonographic features"),
                _answered(facts, "Groups analysed", "variability", "analyses by group"),
                _answered(facts, "Devices", "acquisition", "ultrasound devices and operators"),
                _entry("People", None, "age, sex and origin of the patients"),
            ],
        ),
        (
            "Metrics",
            [
                _answered(facts, "Performance", "performance_in_groups", "performance"),
                _answered(facts, "Calls by truth", "crosstabulation", "cross-tabulation"),
                _answered(facts, "Cutoff", "cutoff", "cutoff, and where it is from"),
                _answered(facts, "Intervals and tests", "uncertainty", "statistical methods"),
                _answered(facts, "Explanations", "explanations", "maps of single calls"),
            ],
        ),
        (
            "Evaluation data",
            [
                _answered(facts, "Cases", "evaluation_cases", "evaluation cases"),
                _answered(facts, "Reference standard", "reference_standard", "reference standard"),
                _answered(facts, "Pre-processing", "preprocessing", "pre-processing"),
            ],
        ),
        (
            "Training data",
            [
                _answered(facts, "Source", "data_source", "source of the data"),
                _answered(facts, "Used and left out", "eligibility", "inclusion and exclusion"),
                _answered(facts, "Parts", "partition", "assignment to parts"),
                _answered(facts, "Overlap", "disjoint", "what the parts share"),
            ],
        ),
        (
            "Ethical considerations",
            [
                _answered(facts, "Approval", "ethics", "ethics approval and consent"),
                _answered(facts, "De-identification", "deidentification", "de-identification"),
                _entry("Fairness", None, "risk of harm to groups of patients"),
            ],
        ),
        (
            "Caveats and recommendations",
            [
                _entry("What the classes mean", _meaning(facts), "meaning of the classes"),
                _answered(facts, "Limits that the files show", "limitations", "limitations"),
                _entry("Further tests", None, "tests still needed, external data above all"),
            ],
        ),
        (
            "How to reproduce",
            [
                _entry("Steps", _steps(facts), "commands"),
                _answered(facts, "Data and code", "availability", "access to data and code"),
            ],
        ),
    ]


def _entry(name: str, text: str | None, to_state: str) -> Entry:
    return Entry(name, text or "", "" if text else to_state)


def _answered(facts: Facts, name: str, answer: str, to_state: str) -> Entry:
    return _entry(name, ANSWERS[answer](facts), to_state)


def _name(facts: Facts) -> str | None:
    """The run's name, or the name of the analysed model."""
    named = (facts.config or {}).get("name") or (facts.models[0] if facts.models else "")
    step = facts.count("step")
    if not named:
        return None
    return f"{named}, checkpoint of step {step}." if step is not None else f"{named}."


def _licence(facts: Facts) -> str | None:
    """That of the initial weights, where recorded; the model's own is the authors' to state."""
    licence = (facts.weights or {}).get("licence")
    return f"Of the initial weights: {licence}." if licence else None


def _out_of_scope(facts: Facts) -> str | None:
    if facts.config is None or facts.subject is None:
        return None
    return (
        "Research software, no medical device, not for diagnosis. Nothing is known of images of "
        f"anything but {facts.subject}, of images without a box, or of other sources than "
        f"{facts.source}."
    )


def _features(facts: Facts) -> str | None:
    n = facts.count("n")
    if not facts.stated or n is None:
        return None
    told = ", ".join(f"{name} {have}" for name, have in facts.stated.items())
    return f"Of the {n} cases of the {facts.reported}, by column: {told}."


def _meaning(facts: Facts) -> str | None:
    """What class 1 may and may not be called."""
    if facts.label_names is None:
        return None
    positive = facts.label_names[1]
    if facts.source == "phantom":
        return f"“{positive}” is a class of simulated nodules: no result here is of patients."
    if facts.source == "ddti" or "TI-RADS" in positive:
        return f"“{positive}” is a reader's grade: it says nothing sure of pathology."
    if facts.source == "busbra":
        return f"“{positive}” is the pathology of breast lesions: it says nothing of the thyroid."
    return None


def _steps(facts: Facts) -> str | None:
    if facts.config is None or facts.source is None or not facts.fingerprint:
        return None
    path = " --patients N --seed N" if facts.source == "phantom" else " --from PATH"
    blanked = {None: "", True: " --mask-overlay", False: " --no-mask-overlay"}[facts.mask_overlay]
    return (
        f"thyrojax data build {facts.source}{path}{blanked} --out DATA (fingerprint "
        f"{facts.fingerprint[:12]}...); thyrojax train with the options in config.json and "
        "--split split.csv of this run; thyrojax evaluate; thyrojax report. Versions as above; on "
        "other hardware the last digits may differ."
    )


def _markdown(text: str) -> str:
    """Text that no Markdown reader takes for HTML, emphasis or a new line."""
    escaped_text = " ".join(text.split())
    for mark in ("\\", "`", "*", "[", "]"):
        escaped_text = escaped_text.replace(mark, f"\\{mark}")
    return escaped_text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
