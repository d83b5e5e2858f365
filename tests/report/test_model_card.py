"""The model card: its sections, its caveats, and blanks where no file tells."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from thyrojax.report.facts import Facts, collect_facts
from thyrojax.report.model_card import card_entries, model_card, model_card_markdown
from thyrojax.report.run_folder import read_run

# Mitchell et al. 2019, figure 1; quantitative analyses stand with the metrics.
SECTIONS = [
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Ethical considerations",
    "Caveats and recommendations",
    "How to reproduce",
]


def _texts(facts: Facts) -> dict[str, str]:
    return {entry.name: entry.text for _, entries in card_entries(facts) for entry in entries}


def test_sections_are_those_of_a_model_card(run_folder: Path) -> None:
    assert [title for title, _ in card_entries(Facts())] == SECTIONS
    html = model_card(read_run(run_folder))
    assert re.findall("<h3>(.*?)</h3>", html) == SECTIONS


def test_an_entry_has_a_text_or_a_named_blank(run_folder: Path) -> None:
    for facts in (Facts(), collect_facts(read_run(run_folder))):
        for _, entries in card_entries(facts):
            for entry in entries:
                assert bool(entry.text) != bool(entry.to_state)
                assert not re.search(r"\b(None|nan)\b", entry.text)


def test_without_any_file_all_is_left_to_the_authors() -> None:
    assert set(_texts(Facts()).values()) == {""}


def test_figures_are_those_of_the_metrics(run_folder: Path) -> None:
    metrics = json.loads((run_folder / "metrics.json").read_text())
    told = _texts(collect_facts(read_run(run_folder)))
    low, high = metrics["auc_ci"]
    assert f"AUC {metrics['auc']:.3f} (95 % CI {low:.3f} to {high:.3f})" in told["Performance"]
    assert f"{metrics['cutoff']:.3f} or more" in told["Cutoff"]
    assert told["Cases"] == ("Test part of 60 nodules of 45 patients, 30 benign and 30 malignant.")


@pytest.mark.parametrize(
    ("source", "subject", "label_names", "meaning"),
    [
        (
            "busbra",
            "breast lesions",
            ["benign", "malignant"],
            "“malignant” is the pathology of breast lesions: it says nothing of the thyroid.",
        ),
        (
            "ddti",
            "thyroid nodules",
            ["TI-RADS-benign (2, 3)", "TI-RADS-suspicious (4a-5)"],
            "“TI-RADS-suspicious (4a-5)” is a reader's grade: it says nothing sure of pathology.",
        ),
        (
            "phantom",
            "simulated thyroid nodules",
            ["benign", "malignant"],
            "“malignant” is a class of simulated nodules: no result here is of patients.",
        ),
        ("csv", "thyroid nodules", ["benign", "malignant"], ""),
    ],
)
def test_what_the_classes_mean_depends_on_the_set(
    new_run: Callable[..., Path], source: str, subject: str, label_names: list[str], meaning: str
) -> None:
    folder = new_run(source=source, subject=subject, label_names=label_names)
    assert _texts(collect_facts(read_run(folder)))["What the classes mean"] == meaning


def test_markdown_and_html_say_the_same(run_folder: Path) -> None:
    run = read_run(run_folder)
    html, markdown = model_card(run), model_card_markdown(run)
    entries = [entry for _, of_section in card_entries(collect_facts(run)) for entry in of_section]
    assert html.count('class="blank"') == markdown.count("(for the authors: ")
    assert html.count("<dt>") == markdown.count("- **") == len(entries)
    assert "Cases" in markdown


def test_paths_of_the_authors_machine_stay_out(run_folder: Path) -> None:
    path = run_folder / "weights.json"
    content = {"source": "/home/someone/secret/inception.h5", "tag": None, "sha256": "ab"}
    path.write_text(json.dumps(content))
    told = _texts(collect_facts(read_run(run_folder)))["Initial weights"]
    assert told == "Weights “inception.h5”, sha256 ab."


def test_random_weights_are_called_random(run_folder: Path) -> None:
    facts = collect_facts(read_run(run_folder))
    told = dataclasses.replace(facts, weights={"source": None, "tag": None, "note": "no network"})
    assert _texts(told)["Initial weights"] == "Random weights. No network."
