"""The checklists: whole, honest about what no file shows, and equal to the run's figures."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from thyrojax.analysis.cutoff import Cutoff
from thyrojax.analysis.predictions import read_predictions
from thyrojax.analysis.study import Study
from thyrojax.analysis.table import table_of
from thyrojax.report import checklist, model_card
from thyrojax.report.checklist_answers import ANSWERS
from thyrojax.report.checklist_model import augmentation, ensemble, training
from thyrojax.report.facts import Facts, collect_facts
from thyrojax.report.run_folder import Run, read_run

# What `thyrojax train` writes into config.json, as far as a checklist asks for it.
CONFIG: dict[str, Any] = {
    "name": "made_up",
    "seed": 7,
    "crop_shape": "square",
    "border": "constant",
    "margin_min": 0,
    "margin_max": 100,
    "margin_eval": 50,
    "input_size": 384,
    "flip": True,
    "gain": 0.1,
    "contrast": 0.0,
    "split": "",
    "validation_fraction": 0.15,
    "test_fraction": 0.25,
    "folds": 0,
    "fold": 0,
    "pooling": "valid",
    "grey": True,
    "aux_head": False,
    "dropout": 0.2,
    "depth_multiplier": 1.0,
    "bn_epsilon": 0.001,
    "epochs": 10.0,
    "steps": 0,
    "batch_size": 32,
    "optimizer": "adamw",
    "lr": 0.001,
    "trunk_lr_scale": 0.1,
    "freeze_bn": False,
    "warmup_fraction": 0.1,
    "schedule": "cosine",
    "weight_decay": 0.0001,
    "label_smoothing": 0.0,
    "class_weights": "balanced",
    "ema": 0.99,
}
# The published lists' own numbers.
STARD_AI_LETTERS = {15: "abcd", 16: "abc", 17: "ab", 26: "ab", 40: "ab"}
TRIPOD_AI_LETTERS = {
    number: letters
    for letters, numbers in {
        "ab": (5, 23),
        "abc": (3, 6, 8, 9, 20, 27),
        "abcdef": (18,),
        "abcdefg": (12,),
    }.items()
    for number in numbers
}


def _numbers(count: int, letters: dict[int, str]) -> list[str]:
    return [f"{n}{letter}" for n in range(1, count + 1) for letter in letters.get(n, " ")]


def _edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _complete(folder: Path) -> Run:
    """A run that has recorded all it can."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    _edit(folder / "data.json", mask_overlay=True)
    _edit(folder / "metrics.json", step=400, margin=50)
    versions = {"python": "3.13.0", "thyrojax": "0.1.0", "jax": "0.12.0", "devices": "1 cpu"}
    (folder / "versions.json").write_text(json.dumps(versions))
    return read_run(folder)


def _study(run: Run) -> Study:
    """An analysis of the run's own test predictions; its tables are only looked for by name."""
    names = ("operating_point", "size_groups", "features", "patient_level", "calibration_summary")
    row = {"metric": "sensitivity", "ci_method": "Clopper-Pearson"}
    metrics = {name: run.metrics[name] for name in run.metrics if name not in ("step", "margin")}
    return Study(
        lead="ours",
        predictions={"ours": run.test, "theirs": run.test},
        validation=read_predictions(run.folder / "predictions" / "val.csv"),
        cutoff=Cutoff(float(run.metrics["cutoff"]), "validation, Youden"),
        label_names=("benign", "malignant"),
        metrics={**metrics, "sensitivity_ci_cluster": [0.61, 0.89]},
        tables={name: table_of(name, "A table.", [row]) for name in names},
        warnings=("the smallest size group has 3 cases",),
    )


@pytest.fixture(scope="module")
def run(reported: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    copy = tmp_path_factory.mktemp("checklists") / "run"
    return _complete(shutil.copytree(reported, copy))


@pytest.fixture(scope="module")
def facts(run: Run) -> Facts:
    known = collect_facts(run, _study(run))
    return dataclasses.replace(
        known, parameters=21_789_090, n_maps=3, map_layer="mixed10", sanity=0.03
    )


def _lines(key: str, known: Facts) -> dict[str, checklist.Line]:
    lines = checklist.fill(checklist.read_checklist(key), known)
    return {line.item.number: line for line in lines}


def _every_line(known: Facts) -> list[checklist.Line]:
    return [line for key in checklist.CHECKLISTS for line in _lines(key, known).values()]


@pytest.mark.parametrize(
    ("key", "numbers", "doi"),
    [
        ("claim", _numbers(44, {}), "10.1148/ryai.240300"),
        ("stard_ai", _numbers(40, STARD_AI_LETTERS), "10.1038/s41591-025-03953-8"),
        ("tripod_ai", _numbers(27, TRIPOD_AI_LETTERS), "10.1136/bmj-2023-078378"),
    ],
)
def test_items_are_numbered_as_published(key: str, numbers: list[str], doi: str) -> None:
    found = checklist.read_checklist(key)
    assert [item.number for item in found.items] == [number.strip() for number in numbers]
    assert found.doi == doi
    assert all(item.topic and item.section and item.blank for item in found.items)


def test_every_named_answer_exists_and_every_answer_is_used() -> None:
    named = {
        item.answer
        for key in checklist.CHECKLISTS
        for item in checklist.read_checklist(key).items
        if item.answer
    }
    assert named <= set(ANSWERS)
    told = Path(model_card.__file__).read_text()
    parts = {"augmentation"}  # of another answer
    assert {name for name in ANSWERS if f'"{name}"' not in told} - parts <= named


def test_an_item_has_an_answer_or_a_named_blank(facts: Facts, run: Run) -> None:
    for known in (Facts(), collect_facts(run), collect_facts(study=_study(run)), facts):
        for line in _every_line(known):
            assert line.answer or line.to_state
            assert bool(line.answer) == (line.status != checklist.BLANK)
            assert line.to_state in (line.item.also if line.answer else line.item.blank,)


def test_without_any_file_every_item_is_a_blank() -> None:
    assert {line.status for line in _every_line(Facts())} == {checklist.BLANK}


def test_a_whole_run_answers_what_software_can_know(facts: Facts) -> None:
    lines = _lines("claim", facts)
    unanswered = {number for number, line in lines.items() if not line.answer}
    # Background, aims, design, reasons, raters, external data, registration, practice, funding.
    assert unanswered == {"3", "4", "5", "15", "18", "33", "34", "41", "44"}
    assert lines["19"].answer == (
        "Patients were dealt at random with like shares of class, size group and TI-RADS where "
        "these are known (seed 7): shares of 0.15 validation and 0.25 test, the rest training. "
        "Train 140 nodules of 105 patients (70 benign, 70 malignant); validation 40 nodules of 30 "
        "patients (20 benign, 20 malignant); test 60 nodules of 45 patients (30 benign, 30 "
        "malignant)."
    )
    assert lines["8"].answer == (
        "Used: every nodule with a readable image, a box and a label, 240 nodules of 180 patients. "
        "Left out: 20 images or regions (no box 12, unreadable image 8)."
    )
    assert "21,789,090 trainable parameters" in lines["22"].answer
    assert "sha256 " + "47" * 32 in lines["24"].answer
    assert "seed 7" in lines["25"].answer
    assert "within 1 ± 0.1" in lines["25"].answer
    assert "largest validation AUC" in lines["26"].answer
    assert "rank correlation with before is 0.03" in lines["31"].answer


@pytest.mark.parametrize(
    ("fact", "numbers"),
    [
        ("source", ("7", "16", "17", "32")),
        ("label_names", ("14", "36", "21")),
        ("exclusions", ("8", "35")),
        ("parts", ("17", "19", "35", "36")),
        ("shared_patients", ("20",)),
        ("config", ("9", "22", "25", "27", "42")),
        ("weights", ("24",)),
        ("versions", ("23", "43")),
        ("validations", ("26",)),
        ("metrics", ("2", "12", "21", "28", "29", "37", "38", "39")),
        ("stated", ("12",)),
        ("tables", ("30",)),
        ("n_maps explained", ("31",)),
        ("fingerprint", ("43",)),
    ],
)
def test_without_a_fact_its_items_are_blanks(
    facts: Facts, fact: str, numbers: tuple[str, ...]
) -> None:
    before = _lines("claim", facts)
    fewer: Any = {name: getattr(Facts(), name) for name in fact.split()}
    after = _lines("claim", dataclasses.replace(facts, **fewer))
    for number in numbers:
        assert before[number].answer
        assert after[number].status == checklist.BLANK
        assert after[number].to_state == after[number].item.blank


@pytest.mark.parametrize("name", CONFIG)
def test_a_missing_setting_never_gives_a_new_or_broken_answer(facts: Facts, name: str) -> None:
    assert facts.config is not None
    for value in ({}, {name: None}, {name: "some text"}):
        rest = {key: kept for key, kept in facts.config.items() if key != name} | value
        for line in _every_line(dataclasses.replace(facts, config=rest)):
            assert not re.search(r"\b(None|nan|inf)\b", line.answer)


def test_figures_are_those_of_the_metrics_and_lead_with_the_clustered_interval(
    facts: Facts, run: Run
) -> None:
    metrics = run.metrics
    answer = _lines("claim", facts)["38"].answer
    low, high = metrics["auc_ci"]
    assert f"AUC {metrics['auc']:.3f} (95 % CI {low:.3f} to {high:.3f})" in answer
    sensitivity = f"sensitivity {100 * metrics['sensitivity']:.1f} %"
    assert f"{sensitivity} (95 % CI 61.0 to 89.0 %)" in answer
    low, high = metrics["specificity_ci"]
    specificity = f"specificity {100 * metrics['specificity']:.1f} %"
    assert f"{specificity} (95 % CI {100 * low:.1f} to {100 * high:.1f} %)" in answer
    table = _lines("stard_ai", facts)["30"].answer
    hit, missed = metrics["true_positive"], metrics["false_negative"]
    assert f"Of 30 malignant, {hit} called malignant and {missed} benign" in table
    assert "Clopper-Pearson" in _lines("claim", facts)["29"].answer
    assert "Wilson" in _lines("claim", collect_facts(run))["29"].answer


def test_an_analysis_alone_tells_results_and_nothing_of_the_making(run: Run) -> None:
    lines = _lines("claim", collect_facts(study=_study(run)))
    assert lines["21"].answer.startswith("Set analysed of 60 cases of 45 patients, 30 benign")
    assert lines["38"].answer
    for number in ("1", "7", "9", "19", "22", "24", "25", "35"):
        assert lines[number].status == checklist.BLANK


def test_recalibration_is_told_where_validation_cases_allowed_it(run: Run) -> None:
    study = _study(run)
    without = dataclasses.replace(study, validation=None)
    told = [
        _lines("tripod_ai", collect_facts(run, known))["12f"].answer for known in (study, without)
    ]
    assert told[0].startswith("Temperature scaling and isotonic regression")
    assert told[1].startswith("No updating")


def test_undefined_figures_are_left_out_and_never_printed(run: Run) -> None:
    names = ("auc", "auc_ci", "sensitivity", "sensitivity_ci", "brier")
    metrics = {**run.metrics, **dict.fromkeys(names), "ece": float("nan")}
    known = collect_facts(dataclasses.replace(run, metrics=metrics))
    answer = _lines("claim", known)["38"].answer
    assert "specificity" in answer
    assert "AUC" not in answer
    assert "sensitivity" not in answer
    for line in _every_line(known):
        assert not re.search(r"\b(None|nan|inf)\b", line.answer)


def test_every_augmentation_and_the_margins_unit_are_told(facts: Facts) -> None:
    assert facts.config is not None
    options = {"margin_unit": "mm", "margin_max": 8, "speckle": 0.3, "rotation": 10.0, "mixup": 0.2}
    text = augmentation(dataclasses.replace(facts, config={**facts.config, **options}))
    assert text == (
        "Drawn anew for each image and epoch: a margin of 0 to 8 mm, a horizontal flip with "
        "probability 1/2, a brightness factor within 1 ± 0.1, a rotation within ± 10 degrees, "
        "multiplicative speckle noise of standard deviation up to 0.3, mixup (Beta distribution, "
        "parameter 0.2)."
    )


def test_several_networks_and_averages_are_told(facts: Facts) -> None:
    config = {**(facts.config or {}), "members": 3, "swa_start": 0.75}
    changed = dataclasses.replace(facts, config=config)
    assert "even average of the weights from 0.75 of the steps on" in str(training(changed))
    assert str(ensemble(changed)).startswith("The mean score of 3 networks, of as many seeds")
    assert str(ensemble(facts)).startswith("No ensemble")


def test_a_given_split_and_folds_are_told_as_such(facts: Facts) -> None:
    assert facts.config is not None
    given = dataclasses.replace(facts, config={**facts.config, "split": "mine.csv"})
    assert _lines("claim", given)["19"].answer.startswith("By a given list of cases")
    folded = dataclasses.replace(facts, config={**facts.config, "folds": 5, "fold": 2})
    assert "5 folds" in _lines("claim", folded)["19"].answer
    assert "fold 2 is the test part" in _lines("claim", folded)["19"].answer


def test_what_parts_were_drawn_from_is_told_as_it_was(facts: Facts) -> None:
    drawn = {"split_seed": 3, "folds": 5, "fold": 1, "inner_folds": 4, "inner_fold": 2}
    config = {**(facts.config or {}), **drawn, "train_share": 0.5}
    told = _lines("claim", dataclasses.replace(facts, config=config))["19"].answer
    assert "(seed 3); fold 1 is the test part, number 2 of 4 parts of the others" in told
    assert "A share of 0.5 of the training patients was used." in told
    config = {**(facts.config or {}), "split_by": "image"}
    told = _lines("claim", dataclasses.replace(facts, config=config))["19"].answer
    assert told.startswith("Images, whatever their patient, were dealt at random")


def test_every_choice_of_the_recipe_is_told(facts: Facts) -> None:
    chosen = {"focal_gamma": 2.0, "head_epochs": 3.0, "unfreeze_epochs": 1.0, "clip_norm": 1.5}
    config = {**(facts.config or {}), **chosen, "layer_lr_decay": 0.8, "patience": 5}
    told = str(training(dataclasses.replace(facts, config=config)))
    for words in (
        "focal loss with gamma 2",
        "the head alone for the first 3 epochs",
        "then one block more each 1 epochs",
        "norm cut to 1.5",
        "times 0.8 for each block",
        "ended after 5 validations",
    ):
        assert words in told
    assert "focal" not in str(training(facts))


def test_whole_frames_are_told_without_box_or_margin(facts: Facts) -> None:
    config = {**(facts.config or {}), "crop_shape": "frame"}
    changed = dataclasses.replace(facts, config=config)
    told = " ".join(line.answer for line in _every_line(changed))
    assert "The window is the whole image, wherever the box lies" in told
    assert "window around" not in told
    assert "margin" not in str(augmentation(changed))


def test_a_patient_in_two_parts_leaves_disjointness_to_the_authors(facts: Facts) -> None:
    shared = dataclasses.replace(facts, shared_patients=1)
    assert _lines("claim", shared)["20"].status == checklist.BLANK


def test_a_set_of_the_authors_own_says_nothing_of_its_origin(facts: Facts) -> None:
    own = _lines("claim", dataclasses.replace(facts, source="csv"))
    for number in ("7", "11", "13", "14", "16", "17"):
        assert own[number].status == checklist.BLANK


def test_a_grade_is_never_called_pathology(new_run: Callable[..., Path]) -> None:
    folder = new_run(
        source="ddti",
        label_names=["TI-RADS-benign (2, 3)", "TI-RADS-suspicious (4a-5)"],
        subject="thyroid nodules",
    )
    run = read_run(folder)
    text = checklist.checklist_section(run) + model_card.model_card(run)
    assert "malignant" not in text
    assert "no pathology" in text


def test_breast_lesions_are_never_called_nodules(new_run: Callable[..., Path]) -> None:
    run = _complete(new_run(source="busbra", subject="breast lesions"))
    text = checklist.checklist_section(run, _study(run)) + model_card.model_card(run)
    assert "nodule" not in text
    assert "Pathology, as the table of the set states it for each lesion" in text


def test_tables_have_every_item_and_the_citation(run: Run) -> None:
    tables = checklist.checklist_tables(run, _study(run))
    assert [table.name for table in tables] == [f"checklist_{key}" for key in checklist.CHECKLISTS]
    assert [len(table.rows) for table in tables] == [44, 48, 52]
    claim = tables[0]
    assert claim.columns == ("item", "section", "topic", "answer", "to_state", "status")
    status = claim.column("status")
    answered = len(status) - status.count(checklist.BLANK)
    in_part = status.count(checklist.IN_PART)
    assert claim.caption.endswith(
        f": {answered} of 44 items filled in by the software, {in_part} of them in part; "
        f"{44 - answered} left to the authors."
    )
    assert "doi 10.1148/ryai.240300" in claim.to_markdown()
    assert claim.to_csv().startswith("item,section,topic,answer,to_state,status\n1,")


class _Tags(HTMLParser):
    """Checks that tags nest; counts them, and the blanks."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.blanks = 0
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.blanks += dict(attrs).get("class") == "blank"
        if tag == "th":
            assert dict(attrs)["scope"] in ("col", "row")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_section_has_three_tables_and_a_line_for_every_blank(run: Run) -> None:
    page = _Tags(checklist.checklist_section(run))
    assert page.tags.count("table") == page.tags.count("caption") == 3
    assert page.blanks == sum(bool(line.to_state) for line in _every_line(collect_facts(run)))


def test_hostile_names_are_escaped(new_run: Callable[..., Path]) -> None:
    evil = "<script>alert(1)</script>\"'&|\n"
    folder = new_run(source=evil, subject=evil, label_names=[evil, "TI-RADS"], exclusions={evil: 1})
    run = _complete(folder)
    _edit(folder / "config.json", name=evil, class_weights=evil, optimizer=evil)
    _edit(folder / "weights.json", tag=evil, note=evil)
    _edit(folder / "metrics.json", cutoff_from=evil)
    run = read_run(folder)
    study = dataclasses.replace(_study(run), lead=evil, predictions={evil: run.test})
    text = checklist.checklist_section(run, study) + model_card.model_card(run, study)
    assert "<script" not in text
    _Tags(text)
    assert "<script" not in model_card.model_card_markdown(run, study)
