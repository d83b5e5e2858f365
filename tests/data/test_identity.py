from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from thyrojax.data.check import summarise
from thyrojax.data.identity import NOTE, pseudonym, pseudonymise, read_key
from thyrojax.data.records import Box, Exclusion, Nodule, SourceData
from thyrojax.errors import DataError

KEY = b"a key of more than sixteen bytes"


def frame() -> np.ndarray:
    return np.zeros((40, 40), np.uint8)


def test_pseudonyms_are_hmac_sha256_of_rfc_2104() -> None:
    # Worked from the definition: H(K xor opad, H(K xor ipad, text)), blocks of 64 bytes.
    block = KEY.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + b"patient\0Mueller, A.").digest()
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).hexdigest()
    assert pseudonym(KEY, "patient", "Mueller, A.") == "P" + outer[:16]


def test_pseudonyms_depend_on_key_kind_and_identifier() -> None:
    made = {
        pseudonym(key, kind, name)
        for key in (KEY, KEY + b"2")
        for kind in ("patient", "image")
        for name in ("1", "2", "ö", "\udcff")
    }
    assert len(made) == 16
    assert pseudonym(KEY, "image", "1") == pseudonym(KEY, "image", "1")


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_key_is_read_without_its_line_end(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "key.txt").write_bytes(KEY + end)
    assert read_key(tmp_path / "key.txt") == KEY


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "a key of 0 bytes"),
        (b"fifteen bytes..\n", "a key of 15 bytes"),
        (b"x" * 5000, "a key of over 4096 bytes"),
    ],
)
def test_a_key_of_wrong_length_is_refused_and_not_quoted(
    tmp_path: Path, content: bytes, found: str
) -> None:
    path = tmp_path / "key.txt"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_key(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: found {found}, expected ")
    assert "openssl rand -hex 32" in message
    assert "\n" not in message
    assert "fifteen" not in message


@pytest.mark.parametrize("name", ["none.txt", ".", "nul\0"])
def test_a_key_that_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="found no readable key"):
        read_key(tmp_path / name)


def example() -> SourceData:
    """Two patients; an image with two nodules, one file of each kind, quoting details and notes."""
    named = Path("/data/Smith_Anna_001.png")
    nodules = (
        Nodule(named, "Smith_Anna_001-1", "4711", Box(1, 1, 9, 9), 0),
        Nodule(named, "Smith_Anna_001-2", "4711", Box(11, 1, 19, 9), 1),
        Nodule(frame, "Jones_02", "4712", Box(1, 1, 9, 9), 1),
    )
    exclusions = (
        Exclusion("Smith_Anna_001", "arrow", "region 3 of 3, box 1 2 -3 4"),
        Exclusion("Jones_03", "no mask file", "mask_Jones_03.png"),
        Exclusion("Jones_04", "no image file", "row 4 of jones.csv"),
    )
    return SourceData("csv", nodules, exclusions, 3, ("Jones_03 and 4711 are odd.", "All 3 real."))


def test_no_id_or_name_is_left() -> None:
    made = pseudonymise(example(), KEY)
    told = repr([(n.image_id, n.patient_id) for n in made.nodules])
    told += repr(made.exclusions) + repr(made.notes)
    for secret in ("Smith", "Anna", "Jones", "jones", "4711", "4712", KEY.decode()):
        assert secret not in told
    assert made.notes[-1] == NOTE
    assert made.notes[1] == "All 3 real."
    assert [entry.detail for entry in made.exclusions] == ["region 3 of 3, box 1 2 -3 4", "", ""]


def test_what_belongs_together_stays_together() -> None:
    made = pseudonymise(example(), KEY)
    first, second, third = made.nodules
    assert first.patient_id == second.patient_id != third.patient_id
    image = pseudonym(KEY, "image", "Smith_Anna_001")
    assert [first.image_id, second.image_id] == [f"{image}-1", f"{image}-2"]
    assert made.exclusions[0].image_id == image
    for was, now in zip(example().nodules, made.nodules, strict=True):
        assert (was.image, was.box, was.label) == (now.image, now.box, now.label)


def test_sets_under_one_key_agree_and_under_another_have_no_id_in_common() -> None:
    assert pseudonymise(example(), KEY) == pseudonymise(example(), KEY)
    ids = [{n.patient_id for n in pseudonymise(example(), key).nodules} for key in (KEY, KEY[::-1])]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize("image", [frame, Path("scan.png"), Path("other/patient-19530204.png")])
def test_digits_at_the_end_of_an_id_are_no_number_of_a_nodule(image: object) -> None:
    nodule = Nodule(image, "patient-19530204", "1", Box(0, 0, 9, 9), 0)  # type: ignore[arg-type]
    made = pseudonymise(SourceData("csv", (nodule,), (), 1), KEY)
    assert made.nodules[0].image_id == pseudonym(KEY, "image", "patient-19530204")


def test_a_pseudonymised_source_still_accounts_for_every_image() -> None:
    summary = summarise(pseudonymise(example(), KEY))
    assert (summary.n_images_used, summary.n_images_excluded) == (2, 1)
