"""The files of a study: whole, self-contained, readable by eye, keyboard and ear."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from thyrojax.analysis.study import Study
from thyrojax.analysis.table import Table, table_of
from thyrojax.errors import ThyrojaxError
from thyrojax.report.study_page import study_page, write_study
from thyrojax.report.study_sections import sections

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what a reader meets."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.headings: list[int] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def _page(study: Study, provenance: dict[str, Any] | None = None) -> Page:
    return Page(study_page(study, sections(study, {}), provenance or {}))


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page((written / "report.html").read_text(encoding="utf-8"))


def test_every_table_is_a_csv_and_a_markdown_file(written: Path, study: Study) -> None:
    names = {path.name for path in (written / "tables").iterdir()}
    tables = [*study.tables, "checklist_claim", "checklist_stard_ai", "checklist_tripod_ai"]
    assert names == {f"{name}.{kind}" for name in tables for kind in ("csv", "md")}
    with (written / "tables" / "size_groups.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[2]["sensitivity"] == "0.888"
    assert rows[3]["sensitivity"] == ""
    assert rows[3]["note"] == "no case in this group"


def test_every_table_that_can_be_drawn_is_a_png_and_an_svg_file(written: Path) -> None:
    names = {path.stem for path in (written / "figures").iterdir()}
    assert names == {
        "roc", "roc_models", "precision_recall", "calibration", "decision_curve", "size_groups",
        "odds_ratios", "readers", "comparison",
    }  # fmt: skip
    for name in names:
        assert (written / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (written / "figures" / f"{name}.svg").read_bytes()


def test_metrics_are_those_of_the_study(written: Path, study: Study) -> None:
    metrics = json.loads((written / "metrics.json").read_text())
    assert metrics["sensitivity"] == study.metrics["sensitivity"]
    assert metrics["auc_ci_cluster"] == study.metrics["auc_ci_cluster"]


def test_the_page_needs_nothing_beside_it(page: Page) -> None:
    assert "script" not in page.tags
    assert "link" not in page.tags
    targets = [image["src"] or "" for image in page.attributes("img")]
    assert len(targets) == 9
    assert all(target.startswith("data:image/svg+xml;base64,") for target in targets)
    assert all((link["href"] or "").startswith("#") for link in page.attributes("a"))


def test_links_lead_to_sections_and_every_section_is_linked(page: Page) -> None:
    identifiers = [attributes.get("id") for _, attributes in page.elements]
    known = [identifier for identifier in identifiers if identifier]
    assert len(known) == len(set(known))
    links = {(link["href"] or "")[1:] for link in page.attributes("a")}
    assert links <= set(known)
    sections_named = {part["aria-labelledby"] for part in page.attributes("section")}
    assert sections_named == links - {"main"}


def test_keyboard_and_screen_reader_find_their_way(page: Page) -> None:
    assert page.attributes("html") == [{"lang": "en"}]
    assert page.attributes("a")[0] == {"class": "skip", "href": "#main"}
    assert all(tag in page.tags for tag in ("header", "nav", "main", "footer"))
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    steps = zip(page.headings, page.headings[1:], strict=False)
    assert all(later <= earlier + 1 for earlier, later in steps)
    assert all(cell["scope"] in ("col", "row") for cell in page.attributes("th"))
    regions = [part for part in page.attributes("div") if part.get("role") == "region"]
    # The three checklists fold into lines on a narrow screen instead of scrolling.
    assert len(regions) + 3 == page.tags.count("table") == page.tags.count("caption")
    assert all(region["tabindex"] == "0" for region in regions)
    labels = [region["aria-label"] for region in regions]
    assert len(labels) == len(set(labels))


def test_alternative_texts_say_the_numbers(page: Page) -> None:
    told = " ".join(image["alt"] or "" for image in page.attributes("img"))
    for words in (
        "margin 0: AUC 0.921 (0.891 to 0.951)",
        "<0.5 (n = 59): sensitivity 1.000, specificity 0.814, auc 0.962",
        "not stated (n = 0): sensitivity -",
        "calcification micro, univariate: 0.254 (0.076 to 0.847)",
        "margin irregular, univariate: complete separation",
        "reader as a point: sensitivity 0.850, specificity 0.980",
        "at 0.100 the model 0.470, treat all 0.444",
    ):
        assert words in told


def test_the_page_begins_with_what_was_studied_and_the_patients_intervals(
    page: Page, study: Study
) -> None:
    metrics = study.metrics
    text = page.text
    assert "399 images of 200 patients: 199 malignant and 200 benign, scored by margin 50" in text
    low, high = metrics["auc_ci_cluster"]
    plain_low, plain_high = metrics["auc_ci"]
    assert (
        f"AUC {metrics['auc']:.3f} 95 % CI by patients {low:.3f} to {high:.3f} "
        f"by images {plain_low:.3f} to {plain_high:.3f}" in text
    )
    assert text.index("by patients") < text.index("At the cutoff At or above")
    assert "several images of one patient are not independent evidence" in text


def test_warnings_stand_in_a_box_and_gaps_under_what_is_missing(page: Page) -> None:
    box, missing = page.text.split("Read these results with care")[1].split("What is missing")
    assert "too few to say anything" in box
    assert "no follow-up" not in box
    assert "The predictions have no follow-up." in missing
    assert "how the truth was established" in missing


def test_one_image_per_patient_has_one_interval_only(
    make_small_study: Callable[..., Study],
) -> None:
    small = make_small_study()
    text = _page(small).text
    low, high = small.metrics["auc_ci"]
    assert f"AUC {small.metrics['auc']:.3f} 95 % CI {low:.3f} to {high:.3f} area under" in text
    assert "by patients" not in text
    assert "No patient has more than one image" in text
    for words in (
        "The predictions have no column size_mm: no results by size.",
        "No comparison: one model's predictions were given.",
        "No validation cases: the scores could not be recalibrated",
    ):
        assert words in text
    assert "Read these results with care" not in text
    assert "Comparison of models" not in text


def test_one_class_only_is_a_page_without_a_curve(make_small_study: Callable[..., Study]) -> None:
    small = make_small_study()
    reason = "all cases are of class 1"
    gaps = {"auc": None, "auc_reason": reason, "auc_ci": None, "auc_ci_reason": reason}
    tables = {"operating_point": small.tables["operating_point"]}
    text = _page(dataclasses.replace(small, metrics=small.metrics | gaps, tables=tables)).text
    assert f"AUC not defined no interval: {reason}" in text
    assert f"No ROC curve: {reason}." in text


def test_gaps_show_as_a_dash_with_their_note_below_by_letter(page: Page) -> None:
    assert "not stated a 0 0 0 - - -" in page.text
    assert "a no case in this group" in page.text
    assert "MCC a - - 399" in page.text
    assert "a no case was called positive" in page.text


def test_table_1_has_percent_with_intervals_and_tests_against_the_best(page: Page) -> None:
    assert "84.2 (81.2 to 87.2) 88.0 (85.0 to 91.0) 80.0 (77.0 to 83.0) 0.921" in page.text
    assert "Accuracy, %: margin 0 -2.0 (-5.0 to 1.0) 0.010 -" in page.text
    assert "AUC: margin 100 best" in page.text


def test_table_2_counts_each_class_by_category_and_marks_small_expected_counts(page: Page) -> None:
    malignant, benign = (
        page.text.split(f"{name} cases: right and wrong calls")[1]
        for name in ("Malignant", "Benign")
    )
    for text in (malignant, benign):
        # The feature's sum is that of its categories: 13 + 24 + 104 right of 17 + 24 + 109.
        assert "Margin of the nodule a 150 141 (94.0) 9 (6.0) 0.024 0.033" in text
        assert "Smooth b 17 13 (76.5) 4 (23.5)" in text
        assert "Taller b 95 93 (97.9) 2 (2.1)" in text
        assert "a An expected count is below 5: read the exact P" in text
    assert (
        "Margin of the nodule, malignant a 0.024 0.048 0.030 0.033 0.066 0.040 1.020" in page.text
    )


def test_a_feature_without_categories_is_a_sentence(study: Study) -> None:
    columns = study.tables["features"].columns
    row = dict.fromkeys(columns) | {"feature": "echogenicity", "note": "no case has a category"}
    empty = table_of("features", "Features.", [row])
    text = _page(dataclasses.replace(study, tables={**study.tables, "features": empty})).text
    assert "Echogenicity: no case has a category." in text


def test_table_3_says_separation_and_gives_firth_beside_it(page: Page) -> None:
    assert "Separated: margin irregular." in page.text
    assert "margin irregular a 0.000 (no interval) - 0.000 (no interval) -" in page.text
    assert "calcification micro 0.254 (0.076 to 0.847) 0.026" in page.text
    assert "0.110 (0.001 to 0.900) 0.040" in page.text


def test_long_tables_are_named_and_not_printed(page: Page, written: Path, study: Study) -> None:
    assert len(study.tables["roc"].rows) == 400
    assert "tables/roc.csv : ROC curve. (400 rows)" in page.text
    assert page.tags.count("tr") < 400
    assert (written / "report.html").stat().st_size < 1_500_000


def test_a_table_that_no_section_knows_is_printed_after_all_others(study: Study) -> None:
    short = table_of(
        "odd", "An odd table.", [{"what": "x", "auc": 0.5, "auc_low": 0.4, "auc_high": 0.6, "n": 3}]
    )
    long = Table("longer", "A long table.", ("x",), tuple((place,) for place in range(500)))
    more = dataclasses.replace(study, tables={**study.tables, "odd": short, "longer": long})
    text = _page(more).text
    assert "x 0.500 (0.400 to 0.600) 3" in text
    assert "A long table. 500 rows." in text


def test_methods_are_named_for_what_was_used_only(
    page: Page, make_small_study: Callable[..., Study]
) -> None:
    small = _page(make_small_study()).text
    for words in ("Vickers and Elkin 2006", "Firth 1993", "Freeman and Halton 1951", "Holm 1979"):
        assert words in page.text
        assert words not in small
    assert "Wilson 1927" in small
    assert "The cluster bootstrap draws patients" not in small


def test_the_page_says_how_to_get_the_same_again(page: Page) -> None:
    last = page.text.split("To get the same again")[-1]
    assert "thyrojax analyse m50=test.csv --out study" in last
    assert "0f" * 32 in last
    assert "seed 0 resamples 2000" in last
    assert "numpy 2.5" in last


def test_options_are_listed_one_by_one(study: Study) -> None:
    text = _page(study, {"options": {"edges_cm": "(0.5, 1.0)", "robust": ""}, "seed": 3}).text
    assert "edges cm (0.5, 1.0) robust not set seed 3" in text


EVIL = "<script>alert(1)</script>\"'&"


def test_text_from_files_is_escaped(make_whole_study: Callable[..., Study]) -> None:
    study = make_whole_study(names=(EVIL, "b"), lead=EVIL, words=EVIL)
    study = dataclasses.replace(study, label_names=("benign" + EVIL, "malignant" + EVIL))
    given = {"command": EVIL, EVIL: EVIL, "files": {EVIL: EVIL}, "versions": {EVIL: EVIL}}
    text = study_page(study, sections(study, {}), given)
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert EVIL in page.text
    assert all(set(attributes) <= {"class", "scope"} for attributes in page.attributes("th"))


def test_nothing_is_written_where_the_place_cannot_be_and_the_old_page_stays(
    tmp_path: Path, make_small_study: Callable[..., Study]
) -> None:
    (tmp_path / "report.html").write_text("the old page")
    (tmp_path / "tables").write_text("a file where a folder must be")
    with pytest.raises(ThyrojaxError, match="expected a place that can be written"):
        write_study(tmp_path, make_small_study(), {})
    assert (tmp_path / "report.html").read_text() == "the old page"
    assert not (tmp_path / "metrics.json").exists()


def test_a_study_that_cannot_be_drawn_writes_nothing(
    tmp_path: Path, make_small_study: Callable[..., Study]
) -> None:
    small = make_small_study()
    broken = table_of("roc", "No curve.", [{"fpr": "x", "wrong": 1}])
    unusable = dataclasses.replace(small, tables={"roc": broken}, metrics={})
    with pytest.raises(KeyError):
        write_study(tmp_path / "out", unusable, {})
    assert not (tmp_path / "out").exists()
