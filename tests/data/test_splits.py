"""Splits: whole patients, alike parts, the same everywhere, and no leak accepted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from thyrojax.config import Config
from thyrojax.data.dataset import Record
from thyrojax.data.records import Box
from thyrojax.data.splits import (
    PARTS,
    UNUSED,
    Parts,
    alike,
    draw_split,
    patient_groups,
    read_run_split,
    read_split,
    write_joined,
    write_split,
)
from thyrojax.errors import ConfigError, DataError
from thyrojax.vocabulary import size_group


def nodule(
    name: str,
    patient: str,
    label: int,
    size_mm: float | None = None,
    tirads: str | None = None,
    frame: str = "",
) -> Record:
    digest = hashlib.sha256((frame or name).encode()).hexdigest()
    return Record(
        image_id=name,
        patient_id=patient,
        box=Box(0, 0, 2, 2),
        label=label,
        size_mm=size_mm,
        tirads=tirads,
        composition=None,
        echogenicity=None,
        calcification=None,
        margin=None,
        shape=None,
        pixel_spacing_mm=None,
        reader_label=None,
        image_sha256=digest,
        frame_sha256=digest,
        height=9,
        width=9,
        perceptual_hash="0" * 64,
    )


def clinic(patients: int, seed: int = 0) -> list[Record]:
    """1 to 3 nodules a patient; class, size and grade depend on each other as in a clinic."""
    random = np.random.default_rng(seed)
    records = []
    for patient in range(patients):
        malignant = int(random.random() < 0.35)
        shares = [0.1, 0.2, 0.3, 0.4] if malignant else [0.5, 0.2, 0.2, 0.1]
        for view in range(random.integers(1, 4)):
            label = malignant if random.random() < 0.95 else 1 - malignant
            size = float(random.choice([3.0, 7.0, 15.0], p=[0.2, 0.4, 0.4]))
            grade = str(random.choice(["3", "4a", "4b", "5"], p=shares))
            records.append(nodule(f"{patient}-{view}", f"p{patient}", label, size, grade))
    return records


def shares(
    records: Sequence[Record], members: Sequence[int], feature: Callable[[Record], object]
) -> dict[object, float]:
    counts = Counter(feature(records[i]) for i in members)
    return {value: count / len(members) for value, count in counts.items()}


def assert_partition(records: Sequence[Record], parts: Parts) -> None:
    everything = np.concatenate([parts[part] for part in PARTS])
    assert sorted(everything.tolist()) == list(range(len(records)))
    patients = [{records[i].patient_id for i in parts[part]} for part in PARTS]
    assert sum(map(len, patients)) == len(set.union(*patients))


def test_parts_are_alike_in_class_size_and_grade() -> None:
    records = clinic(500)
    parts = draw_split(records, Config(validation_fraction=0.15, test_fraction=0.2))
    assert_partition(records, parts)
    for part, fraction in zip(PARTS, (0.65, 0.15, 0.2), strict=True):
        assert len(parts[part]) / len(records) == pytest.approx(fraction, abs=0.01)
    features: list[Callable[[Record], object]] = [
        lambda r: r.label,
        lambda r: size_group(r.size_mm),
        lambda r: r.tirads,
        lambda r: (r.label, r.tirads),
        lambda r: (r.label, size_group(r.size_mm)),
    ]
    for feature in features:
        whole = shares(records, range(len(records)), feature)
        for part in PARTS:
            here = shares(records, parts[part].tolist(), feature)
            for value, share in whole.items():
                assert here.get(value, 0.0) == pytest.approx(share, abs=0.025), (part, value)


def test_patients_with_many_nodules_are_in_every_part() -> None:
    records = clinic(500)
    parts = draw_split(records, Config())
    for part in PARTS:
        views = Counter(Counter(records[i].patient_id for i in parts[part]).values())
        for count in (1, 2, 3):
            assert views[count] / views.total() == pytest.approx(1 / 3, abs=0.06)


def test_folds_test_every_nodule_once() -> None:
    records = clinic(200)
    tested = []
    for fold in range(5):
        parts = draw_split(records, Config(folds=5, fold=fold, validation_fraction=0.25))
        assert_partition(records, parts)
        rest = len(records) - len(parts["test"])
        assert len(parts["test"]) / len(records) == pytest.approx(0.2, abs=0.015)
        assert len(parts["validation"]) / rest == pytest.approx(0.25, abs=0.02)
        tested.extend(parts["test"].tolist())
    assert sorted(tested) == list(range(len(records)))


@pytest.mark.parametrize("folds", [0, 5])
def test_inner_folds_hold_out_every_nodule_that_is_no_test_once(folds: int) -> None:
    records = clinic(200)
    test = draw_split(records, Config(folds=folds))["test"]
    held_out = []
    for inner in range(4):
        parts = draw_split(records, Config(folds=folds, inner_folds=4, inner_fold=inner))
        assert_partition(records, parts)
        assert np.array_equal(parts["test"], test)
        rest = len(records) - len(test)
        assert len(parts["validation"]) / rest == pytest.approx(0.25, abs=0.03)
        held_out.extend(parts["validation"].tolist())
    assert sorted([*held_out, *test.tolist()]) == list(range(len(records)))


def test_a_seed_gives_one_split_whatever_the_order() -> None:
    records = clinic(60)

    def assigned(order: Sequence[Record], seed: int) -> dict[str, str]:
        parts = draw_split(order, Config(seed=seed))
        return {order[i].image_id: part for part in PARTS for i in parts[part]}

    assert assigned(records, 3) == assigned(records[::-1], 3)
    assert assigned(records, 3) != assigned(records, 4)


def test_the_split_of_a_seed_does_not_change_with_versions() -> None:
    # Pinned when written: what a published run was split by must come out again.
    parts = draw_split(clinic_by_rule(), Config(seed=1, validation_fraction=0.2, test_fraction=0.2))
    assert {part: parts[part].tolist() for part in PARTS} == PINNED


def clinic_by_rule() -> list[Record]:
    return [nodule(f"n{i}", f"p{i // 2}", (i // 2) % 2, 2.0 + i % 12) for i in range(20)]


PINNED = {
    "train": [6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 18, 19],
    "validation": [0, 1, 2, 3],
    "test": [4, 5, 14, 15],
}


def test_patients_who_share_a_frame_are_one() -> None:
    records = [
        nodule("a1", "a", 0),
        nodule("b1", "b", 0, frame="same"),
        nodule("c1", "c", 1, frame="other"),
        nodule("a2", "a", 0, frame="same"),
        nodule("d1", "d", 1),
        nodule("c2", "c", 1),
        nodule("b2", "b", 0, frame="other"),
    ]
    assert patient_groups(records) == [[0, 1, 2, 3, 5, 6], [4]]
    assert patient_groups([records[0], records[4], records[3]]) == [[0, 2], [1]]


def test_a_patient_with_both_classes_stays_whole() -> None:
    records = [nodule(f"{i}-{label}", f"p{i}", label) for i in range(12) for label in (0, 1)]
    assert_partition(records, draw_split(records, Config()))


def test_too_few_patients_are_refused() -> None:
    two_malignant = [nodule(f"n{i}", f"p{i}", int(i < 2)) for i in range(30)]
    with pytest.raises(DataError, match=r"found 2 patients .* with a malignant nodule, .* least 3"):
        draw_split(two_malignant, Config())
    with pytest.raises(
        DataError, match=r"found 7 patients .* malignant .* at least 10 for 10 folds"
    ):
        draw_split([nodule(f"n{i}", f"p{i}", int(i < 7)) for i in range(30)], Config(folds=10))
    joined = [nodule(f"n{i}", f"p{i}", i % 2, frame="same") for i in range(30)]
    with pytest.raises(DataError, match=r"found 1 patients .*joining"):
        draw_split(joined, Config())
    with pytest.raises(DataError, match="found no benign nodule for the validation part"):
        draw_split(clinic(9), Config(validation_fraction=0.01, test_fraction=0.3))


def test_a_written_split_reads_back(tmp_path: Path) -> None:
    records = [*clinic(40), nodule("last, with comma", "p, too", 0)]
    parts = draw_split(records, Config())
    write_split(tmp_path / "split.csv", records, parts)
    again = read_split(tmp_path / "split.csv", records)
    for part in PARTS:
        np.testing.assert_array_equal(again[part], parts[part])
    lines = (tmp_path / "split.csv").read_text().splitlines()
    assert lines[0] == "image_id,patient_id,part,label,size_group,tirads"
    first = records[0]
    assert lines[1].split(",")[3:] == [str(first.label), size_group(first.size_mm), first.tirads]
    assert lines[-1].startswith('"last, with comma","p, too",')
    assert [path.name for path in tmp_path.iterdir()] == ["split.csv"]


SMALL = [
    nodule("a", "p1", 0),
    nodule("b", "p2", 1),
    nodule("c", "p3", 0),
    nodule("d", "p4", 1),
    nodule("e", "p5", 0),
    nodule("f", "p6", 1),
]
GOOD = "image_id,patient_id,part\na,p1,train\nb,p2,train\nc,p3,validation\nd,p4,validation\n"
GOOD += "e,p5,test\nf,p6,test\n"


def test_three_columns_are_enough(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text(GOOD)
    parts = read_split(tmp_path / "split.csv", SMALL)
    assert {part: parts[part].tolist() for part in PARTS} == {
        "train": [0, 1],
        "validation": [2, 3],
        "test": [4, 5],
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image_id,", "name,", "found columns name, patient_id, part, expected also image_id"),
        (GOOD, "", "found columns none, expected also image_id, patient_id, part"),
        ("a,p1,train", "z,p1,train", "row 1: found image_id 'z', expected an image_id of the data"),
        ("a,p1,train\n", "", "found no row for image_id 'a'"),
        (
            "a,p1,train",
            "b,p2,train",
            "row 2: found image_id 'b' again, expected each image_id once",
        ),
        ("a,p1", "a,p9", "row 1: found patient_id 'p9' for image_id 'a', expected 'p1'"),
        (
            "c,p3,validation",
            "c,p3,val",
            "row 3: found part 'val', expected one of train, validation",
        ),
        ("a,p1,train", "a,p1", "row 1: found another number of cells, expected 3 cells"),
        ("a,p1,train", "a,p1,train,0", "row 1: found another number of cells, expected 3 cells"),
        ("e,p5,test\nf,p6,test", "e,p5,train\nf,p6,train", "found no nodule in part test"),
        ("e,p5,test", "e,p5,train", "found only malignant nodules in part test"),
        ("a,p1,train", 'a,"p1,train', "found an unreadable file"),
    ],
)
def test_a_faulty_split_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "split.csv"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(DataError, match=message) as caught:
        read_split(path, SMALL)
    assert all(line.startswith(str(path)) for line in str(caught.value).splitlines())


def test_another_label_than_the_sets_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    parts = {part: np.array([2 * k, 2 * k + 1], np.int32) for k, part in enumerate(PARTS)}
    write_split(path, SMALL, parts)
    path.write_text(path.read_text().replace("a,p1,train,0", "a,p1,train,1"))
    with pytest.raises(DataError, match="row 1: found label '1' for image_id 'a', expected '0'"):
        read_split(path, SMALL)


def test_a_patient_in_two_parts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text(GOOD.replace("f,p6", "f,p1"))
    with pytest.raises(
        DataError, match=r"patient 'p1' in train \(a\), test \(f\), expected each patient in one"
    ):
        read_split(path, [*SMALL[:5], nodule("f", "p1", 1)])


def test_identical_frames_in_two_parts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text(GOOD)
    with pytest.raises(DataError, match=r"identical frames in train \(a\), validation \(c\)"):
        read_split(path, [*SMALL[:2], nodule("c", "p3", 0, frame="a"), *SMALL[3:]])


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.csv: found an unreadable file"):
        read_split(tmp_path / "no.csv", SMALL)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"b\.csv: found an unreadable file"):
        read_split(tmp_path / "b.csv", SMALL)


PAIR = (0, 2, 0.961)  # nodules a of patient p1 and c of patient p3


def test_near_duplicates_join_patients_from_the_threshold_on() -> None:
    assert patient_groups(SMALL, [PAIR, (2, 3, 0.9)]) == [[0, 2, 3], [1], [4], [5]]
    assert alike([PAIR, (2, 3, 0.9)], 0.95) == [PAIR]
    assert alike([PAIR, (2, 3, 0.9)], 0.961) == [PAIR]
    assert alike([PAIR, (2, 3, 0.9)], 0.0) == []


def test_a_threshold_below_what_sets_list_would_change_nothing_and_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"near_duplicates: found 0.5, expected 0, or between 0.9"
    ):
        Config(near_duplicates=0.5)
    assert Config(near_duplicates=0.0).near_duplicates == 0.0


def test_a_drawn_split_keeps_near_duplicates_together() -> None:
    records = clinic(60)
    pairs = [(i, len(records) - 1 - i, 0.97) for i in range(12)]
    for seed in range(4):
        parts = draw_split(records, Config(seed=seed), pairs)
        part_of = {int(i): part for part, members in parts.items() for i in members}
        assert all(part_of[i] == part_of[j] for i, j, _ in pairs)
    apart = draw_split(records, Config(near_duplicates=0.98), pairs)
    alone = draw_split(records, Config())
    assert all(np.array_equal(apart[part], alone[part]) for part in PARTS)


def test_near_duplicates_in_two_parts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text(GOOD)
    with pytest.raises(
        DataError,
        match=r"near-duplicates \(0\.961\) in train \(a\), validation \(c\), expected each",
    ):
        read_split(path, SMALL, [PAIR])
    assert set(read_split(path, SMALL, [(0, 1, 1.0)])) == set(PARTS)  # both in training


def test_joined_pairs_are_listed(tmp_path: Path) -> None:
    write_joined(tmp_path / "near_duplicates.csv", SMALL, [PAIR])
    assert (tmp_path / "near_duplicates.csv").read_text().splitlines() == [
        "image_id,patient_id,other_image_id,other_patient_id,similarity",
        "a,p1,c,p3,0.9610",
    ]


def test_split_seed_draws_the_parts_whatever_the_seed() -> None:
    records = clinic(60)
    one, other = (draw_split(records, Config(seed=seed, split_seed=3)) for seed in (0, 1))
    by_seed = draw_split(records, Config(seed=3))
    for part in PARTS:
        assert np.array_equal(one[part], other[part])
        assert np.array_equal(one[part], by_seed[part])


def test_a_split_by_image_deals_each_record_alone_and_is_read_as_such(tmp_path: Path) -> None:
    records = clinic(60)
    config = Config(split_by="image", folds=5)
    parts = draw_split(records, config, [(0, 1, 1.0)])
    everything = np.concatenate([parts[part] for part in PARTS])
    assert sorted(everything.tolist()) == list(range(len(records)))
    part_of = {int(i): part for part, members in parts.items() for i in members}
    several = [group for group in patient_groups(records) if len({part_of[i] for i in group}) > 1]
    assert several  # the leak that it is there to measure
    write_split(tmp_path / "split.csv", records, parts)
    again = read_run_split(tmp_path, config, records, [(0, 1, 1.0)])
    assert all(np.array_equal(again[part], parts[part]) for part in PARTS)
    with pytest.raises(DataError, match="expected each patient in one part"):
        read_split(tmp_path / "split.csv", records)


def test_shares_of_the_training_patients_are_nested_and_leave_the_rest_alone(
    tmp_path: Path,
) -> None:
    records = clinic(60)
    whole = draw_split(records, Config())
    used: list[set[int]] = []
    for share in (0.25, 0.5):
        config = Config(train_share=share)
        parts = draw_split(records, config)
        for part in ("validation", "test"):
            assert np.array_equal(parts[part], whole[part])
        assert sorted([*parts["train"], *parts[UNUSED]]) == whole["train"].tolist()
        patients = {records[i].patient_id for i in parts["train"]}
        assert not patients & {records[i].patient_id for i in parts[UNUSED]}
        assert len(patients) == pytest.approx(
            share * len({records[i].patient_id for i in whole["train"]}), abs=1.0
        )
        used.append(set(parts["train"].tolist()))
        write_split(tmp_path / "split.csv", records, parts)
        again = read_run_split(tmp_path, config, records, [])
        assert all(np.array_equal(again[part], members) for part, members in parts.items())
    assert used[0] < used[1]
