"""The report of a whole run, of a run with gaps, and of runs that must be refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from thyrojax.analysis.predictions import Predictions, read_predictions, write_predictions
from thyrojax.errors import RunError, ThyrojaxError
from thyrojax.report.html import write_report

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags nest, and collects text, image and table facts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.inside: list[str] = []
        self.identifiers: list[str] = []
        self.feed(text)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "th":
            assert dict(attrs)["scope"] in ("col", "row")
        links = [value for name, value in attrs if name in ("src", "href") and value]
        self.outside += [link for link in links if not link.startswith(("data:", "#"))]
        self.inside += [link[1:] for link in links if link.startswith("#")]
        self.identifiers += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def _report(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def _read(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def _edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_whole_run_gives_one_self_contained_file_and_the_figures(reported: Path) -> None:
    page = _read(reported)
    assert page.outside == []
    assert "script" not in page.tags
    assert len(page.images) == 16
    assert all(image["alt"] for image in page.images)
    assert page.tags.count("table") == page.tags.count("caption") > 15
    names = {path.name for path in (reported / "figures").iterdir()}
    stems = ["roc", "precision_recall", "calibration", "decision_curve"]
    stems += ["confusion", "learning_curves", "parts_by_size", "parts_by_tirads"]
    stems += ["crop_shapes", "network", "block_1", "mass_in_box_1"]
    stems += [f"example_{number}" for number in (1, 2, 3, 4)]
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    tables = {path.name for path in (reported / "tables").iterdir()}
    assert {"operating_point.csv", "roc.md", "checklist_claim.csv"} <= tables
    assert (reported / "model_card.md").read_text().startswith("# Model card")


def test_the_contents_link_to_every_section_once(reported: Path) -> None:
    page = _read(reported)
    assert len(set(page.identifiers)) == len(page.identifiers)
    assert set(page.inside) <= set(page.identifiers)
    assert "Contents Result Calls by truth At the cutoff ROC curve Calibration" in page.text
    assert "Data Crop Network Training Examples" in page.text
    assert "Model card Reporting checklists Configuration and versions" in page.text


def test_the_headline_is_that_of_metrics_json(reported: Path) -> None:
    metrics = json.loads((reported / "metrics.json").read_text())
    text = _read(reported).text
    assert f"AUC {metrics['auc']:.3f} 95 % CI by patients" in text
    low, high = metrics["auc_ci"]
    assert f"by images {low:.3f} to {high:.3f}" in text
    assert f"Sensitivity {100 * metrics['sensitivity']:.1f} %" in text
    assert (
        f"score of {metrics['cutoff']:.3f} or above. The cutoff: Youden on the validation" in text
    )
    assert "On the test part: 60 nodules of 45 patients (simulated thyroid nodules)" in text


def test_the_flow_counts_every_image(reported: Path) -> None:
    text = _read(reported).text
    for statement in (
        "260 images found",
        "20 excluded",
        "no box: 12 unreadable image: 8",
        "240 nodules of 180 patients",
        "train: 140 nodules of 105 patients 70 benign 70 malignant",
        "validation: 40 nodules of 30 patients",
        "test: 60 nodules of 45 patients",
        "test part evaluated: 60 of 60 nodules",
    ):
        assert statement in text


def test_the_flow_ends_with_each_call_and_its_truth(reported: Path) -> None:
    metrics = json.loads((reported / "metrics.json").read_text())
    test = read_predictions(reported / "predictions" / "test.csv")
    called = test.scores >= metrics["cutoff"]
    counts = [int((called & (test.labels == label)).sum()) for label in (0, 1)]
    text = _read(reported).text
    assert (
        f"{sum(counts)} called malignant (score ≥ cutoff), in truth "
        f"{counts[1]} malignant {counts[0]} benign" in text
    )
    assert (
        f"{60 - sum(counts)} called benign (score < cutoff), in truth "
        f"{30 - counts[1]} malignant {30 - counts[0]} benign" in text
    )


def test_nodules_without_a_score_are_counted(run_folder: Path) -> None:
    with (run_folder / "split.csv").open("a") as file:
        file.write("test-60,p,test,1,,5\n")
    text = _report(run_folder).text
    assert "test part evaluated: 60 of 61 nodules" in text
    assert "1 without a score" in text


def test_size_groups_stand_in_their_order_and_add_up(reported: Path) -> None:
    page = _read(reported)
    assert (
        "Part Class Nodules Patients <0.5 0.5-1.0 >1.0 not stated train benign 70 70" in page.text
    )
    row = re.search(r"not stated train benign 70 70 (\d+) (\d+) (\d+) (\d+)", page.text)
    assert row is not None
    assert sum(map(int, row.groups())) == 70
    assert "Nodules Patients 2 3 4a 4b 4c 5 train" in page.text


def test_ddti_is_never_called_malignant(new_run: Callable[..., Path]) -> None:
    run = new_run(
        source="ddti",
        label_names=["TI-RADS-benign (2, 3)", "TI-RADS-suspicious (4a-5)"],
        subject="thyroid nodules",
    )
    text = write_report(run).read_text()
    assert "malignant" not in text
    assert "TI-RADS-suspicious (4a-5)" in text


def test_breast_lesions_are_counted_as_lesions(new_run: Callable[..., Path]) -> None:
    text = _report(new_run(source="busbra", subject="breast lesions")).text
    assert "60 lesions of 45 patients (breast lesions)" in text
    assert "nodule" not in text


def test_what_a_source_says_of_itself_is_shown(new_run: Callable[..., Path]) -> None:
    text = _report(new_run(notes=["Names no patients: <each> image is one."])).text
    assert "Names no patients: <each> image is one." in text


def test_text_from_files_is_escaped(new_run: Callable[..., Path]) -> None:
    evil = "<script>alert(1)</script>\"'&"
    run = new_run(source=evil, subject=evil, label_names=[evil, evil], exclusions={evil: 1})
    _edit(run / "config.json", name=evil)
    _edit(run / "weights.json", tag=evil, source=evil, note=evil)
    _edit(run / "metrics.json", cutoff_from=evil)
    examples = json.loads((run / "examples.json").read_text())
    examples[0]["image_id"] = evil
    (run / "examples.json").write_text(json.dumps(examples))
    page = _report(run)
    assert "script" not in page.tags
    assert evil in page.text


def test_examples_are_sorted_into_right_and_wrong(new_run: Callable[..., Path]) -> None:
    run_folder = new_run(examples=4)
    examples = json.loads((run_folder / "examples.json").read_text())
    for example, label, score in zip(examples, (0, 1, 0, 1), (0.99, 0.01, 0.01, 0.99), strict=True):
        example |= {"label": label, "score": score}
    (run_folder / "examples.json").write_text(json.dumps(examples))
    text = _report(run_folder).text
    wrong, right = text.split("Wrong calls")[1].split("Right calls")
    assert "test-0: benign, called malignant at score 0.990." in wrong
    assert "test-1: malignant, called benign at score 0.010." in wrong
    assert "test-2: benign, called benign" in right
    assert "test-3: malignant, called malignant" in right


def test_what_a_run_may_lack_is_left_out_with_a_sentence(run_folder: Path) -> None:
    for name in (
        *("metrics.jsonl", "examples.json", "weights.json", "crop_shapes.json"),
        *("architecture.json", "explanations/test.csv", "explanations/test/sanity.csv"),
    ):
        (run_folder / name).unlink()
    (run_folder / "predictions" / "val.csv").unlink()
    page = _report(run_folder)
    assert "No learning curves" in page.text
    assert "has not written examples.json" in page.text
    assert "did not record the weights" in page.text
    assert "did not record the versions" in page.text
    assert "has not written crop_shapes.json" in page.text
    assert "did not record its network" in page.text
    assert "`thyrojax explain` has not been run" in page.text
    assert len(page.images) == 7


def test_a_split_without_sizes_and_grades_says_so(run_folder: Path) -> None:
    lines = (run_folder / "split.csv").read_text().splitlines()
    shorter = [",".join(line.split(",")[:4]) for line in lines]
    (run_folder / "split.csv").write_text("\n".join(shorter) + "\n")
    text = _report(run_folder).text
    assert "No size groups: the source does not state them." in text
    assert "No TI-RADS grades: the source does not state them." in text


def test_a_test_part_of_one_class_is_reported_without_a_roc_curve(run_folder: Path) -> None:
    test = read_predictions(run_folder / "predictions" / "test.csv")
    labels = np.ones(len(test), int)
    write_predictions(
        run_folder / "predictions" / "test.csv",
        Predictions(test.image_ids, test.patient_ids, labels, test.scores),
    )
    metrics = json.loads((run_folder / "metrics.json").read_text())
    kept = {key: metrics[key] for key in ("n", "cutoff", "cutoff_from")}
    (run_folder / "metrics.json").write_text(json.dumps(kept))
    text = _report(run_folder).text
    assert "No ROC curve: all cases are of class 1." in text
    assert "AUC not defined" in text


def test_a_split_by_image_is_said_and_not_refused(run_folder: Path) -> None:
    """One patient in the test and in the validation part, as such a split has many."""
    test = read_predictions(run_folder / "predictions" / "test.csv")
    path = run_folder / "predictions" / "val.csv"
    cases = read_predictions(path)
    patients = (test.patient_ids[0], *cases.patient_ids[1:])
    write_predictions(path, replace(cases, patient_ids=patients))
    split = run_folder / "split.csv"
    first = f"{cases.image_ids[0]},{cases.patient_ids[0]},"
    split.write_text(
        split.read_text().replace(first, f"{cases.image_ids[0]},{test.patient_ids[0]},")
    )
    config = json.loads((run_folder / "config.json").read_text())
    (run_folder / "config.json").write_text(json.dumps({**config, "split_by": "image"}))
    text = _report(run_folder).text
    assert text.count("dealt to the parts whatever their patient") >= 2  # data, limitations
    assert "disjoint by patient" not in text


def test_training_images_that_could_not_be_read_are_told(run_folder: Path) -> None:
    path = run_folder / "metrics.jsonl"
    bad = [{"step": 3, "bad_record": f"image-{n}", "reason": "damaged"} for n in range(7)]
    path.write_text("".join(json.dumps(line) + "\n" for line in bad) + path.read_text())
    text = _report(run_folder).text
    assert "7 training nodules could not be read and gave way to others: image-0, image-1" in text
    assert "image-4 and 2 more" in text
    assert "raining went without 7 of its images" in text  # the checklists' limitations


def test_versions_of_training_are_shown(run_folder: Path) -> None:
    (run_folder / "versions.json").write_text(json.dumps({"jax": "9.9.9"}))
    assert "Versions in training jax 9.9.9" in _report(run_folder).text


def test_half_a_last_line_of_the_log_is_passed_over_and_repeated_steps_count_once(
    run_folder: Path,
) -> None:
    log = run_folder / "metrics.jsonl"
    again = json.dumps({"step": 400, "epoch": 10.0, "val_loss": 0.4, "val_auc": 0.97})
    log.write_text(log.read_text() + again + '\n{"step": 410, "ep')
    assert "last validation is at epoch 10." in write_report(run_folder).read_text()


def _remove(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def _write(name: str, text: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text(text) and None


def _set(name: str, **values: object) -> Callable[[Path], None]:
    return lambda run: _edit(run / name, **values)


SPLIT = "image_id,patient_id,part,label\n"
EXAMPLE = {
    "image_id": "a", "label": 1, "score": 0.5, "frame": "examples/test-0.png",
    "input": "examples/test-0_input.png", "box": [0, 0, 5, 5], "window": [0, 0, 9, 9],
}  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_remove("config.json"), "config.json: found no such file"),
        (_remove("data.json"), "data.json: found no such file"),
        (_remove("split.csv"), "split.csv: found no such file"),
        (_remove("metrics.json"), "metrics.json: found no such file, expected what `thyrojax eval"),
        (_remove("predictions/test.csv"), "test.csv: found no such file, expected what `thyrojax"),
        (_write("config.json", "{"), "config.json: found no readable JSON"),
        (_write("data.json", "[]"), "data.json: found list, expected an object"),
        (_set("data.json", notes="one"), "data.json, notes: found 'one'"),
        (_set("data.json", n_images=-1), "data.json, n_images: found -1"),
        (_set("data.json", label_names=["one"]), "data.json, label_names: found"),
        (_set("data.json", exclusions={"a": "b"}), "data.json, exclusions: found"),
        (_write("data.json", "{}"), "data.json: found no source"),
        (_write("split.csv", "image_id,part\n"), "split.csv: found no column patient_id, label"),
        (_write("split.csv", SPLIT), "split.csv: found no rows"),
        (_write("split.csv", SPLIT + "a,p,tset,1\n"), "row 1: found part 'tset'"),
        (_write("split.csv", SPLIT + "a,p,test,2\n"), "row 1: found label '2'"),
        (_write("split.csv", SPLIT + "a,p,test\n"), "row 1: found a ragged row"),
        (
            _write("split.csv", SPLIT + "a,p,test,1\nb,p,train,0\n"),
            "row 2: found patient 'p' in train and in test",
        ),
        (_set("metrics.json", n=59), "metrics.json, n: found 59, expected 60"),
        (_set("metrics.json", cutoff=None), "metrics.json, cutoff: found None"),
        (_set("metrics.json", auc=0.5), "metrics.json, auc: found 0.5, expected 0.9"),
        (_write("metrics.json", "{}"), "metrics.json: found no n"),
        (_write("metrics.jsonl", "x\n{}\n"), "metrics.jsonl, line 1: found no JSON"),
        (_write("metrics.jsonl", '{"loss": 1}\n'), "metrics.jsonl, line 1: found no epoch"),
        (_write("examples.json", "{}"), "examples.json: found dict, expected a list"),
        (_write("examples.json", json.dumps([{**EXAMPLE, "box": [1]}])), "example 1, box: found"),
        (_write("examples.json", json.dumps([{**EXAMPLE, "score": 7}])), "example 1, score: found"),
        (
            _write("examples.json", json.dumps([{**EXAMPLE, "frame": "none.png"}])),
            "example 1: found no file none.png in the run folder",
        ),
        (_write("examples/test-0.png", "x"), "test-0.png: found no readable image"),
        (_write("predictions/test.csv", "x"), "test.csv, header: found columns 'x' without"),
    ],
)
def test_a_broken_run_is_refused_in_one_line_and_nothing_is_written(
    run_folder: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(run_folder)
    (run_folder / "report.html").write_text("the old report")
    with pytest.raises(ThyrojaxError) as caught:
        write_report(run_folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (run_folder / "report.html").read_text() == "the old report"
    assert not (run_folder / "figures").exists()


def test_a_folder_that_is_not_there_is_named(run_folder: Path) -> None:
    shutil.rmtree(run_folder)
    with pytest.raises(RunError, match="found no such folder, expected a run folder"):
        write_report(run_folder)
