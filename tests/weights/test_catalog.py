"""What the catalog says: real checksums, of the publishers' own, and where its files are kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from thyrojax.errors import WeightsError
from thyrojax.weights import CATALOG, catalog, catalog_rows, fetch
from thyrojax.weights.catalog import Origin
from thyrojax.weights.types import VARIANTS

ORIGINS = [
    pytest.param(origin, id=f"{entry.tag}-{number}")
    for entry in CATALOG.values()
    for number, origin in enumerate(entry.origins)
]


def test_tags_are_those_that_others_publish() -> None:
    assert list(CATALOG) == [
        "imagenet", "keras-top", "torchvision", "timm-tv_in1k", "timm-tf_in1k",
        "timm-tf_adv_in1k", "timm-gluon_in1k", "slim-2016", "fid", "fid-torchscript",
    ]  # fmt: skip


def test_imagenet_tries_keras_first_and_states_real_checksums(shared: Path) -> None:
    keras, package = CATALOG["imagenet"].origins
    assert keras.where.startswith("https://storage.googleapis.com/tensorflow/keras-applications/")
    assert (keras.algorithm, len(keras.checksum)) == ("md5", 32)
    with (shared / "weights" / "keras" / "inceptionv3_v1.h5").open("rb") as file:
        assert package.checksum == hashlib.file_digest(file, "sha256").hexdigest()
        assert package.size == file.seek(0, os.SEEK_END)


@pytest.mark.parametrize("origin", ORIGINS)
def test_checksum_is_of_its_kind(origin: Origin) -> None:
    digits = {"md5": 32, "sha256": 64, "sha256 prefix": 8, "": 0}[origin.algorithm]
    assert re.fullmatch(f"[0-9a-f]{{{digits}}}", origin.checksum)
    if origin.algorithm == "sha256 prefix":  # torch.hub's convention: the digits are in the name
        assert f"-{origin.checksum}.pth" in origin.where


@pytest.mark.parametrize("origin", ORIGINS)
def test_size_is_that_of_inception_v3(origin: Origin) -> None:
    # 21,802,784 numbers of 4 bytes without classifier, 27,161,264 with both.
    assert origin.size is None or 21_802_784 * 4 < origin.size < 27_161_264 * 4 + 400_000


def test_mirrors_know_the_files_apart_by_name() -> None:
    names = [
        origin.file_name
        for entry in CATALOG.values()
        for origin in entry.origins
        if origin.is_address
    ]
    assert len(set(names)) == len(names)
    assert CATALOG["torchvision"].origins[0].file_name == "inception_v3_google-0cc3c7bd.pth"
    assert CATALOG["timm-tv_in1k"].origins[0].file_name == "inception_v3.tv_in1k.safetensors"


def test_variants_are_of_those_who_trained_the_weights() -> None:
    expected = {
        "imagenet": "keras", "keras-top": "keras", "torchvision": "torchvision",
        "timm-tv_in1k": "timm", "timm-tf_in1k": "timm", "timm-tf_adv_in1k": "timm",
        "timm-gluon_in1k": "gluon", "slim-2016": "slim", "fid": "fid",
        "fid-torchscript": "fid2015",
    }  # fmt: skip
    assert {tag: entry.variant for tag, entry in CATALOG.items()} == {
        tag: VARIANTS[name] for tag, name in expected.items()
    }


def test_published_figures_name_their_source() -> None:
    # keras.io/api/applications, torchvision's documentation, timm's results, slim's README
    top1 = {tag: entry.top1 for tag, entry in CATALOG.items() if entry.top1}
    assert top1 == {
        "keras-top": 77.9, "torchvision": 77.294, "timm-tv_in1k": 77.434, "timm-tf_in1k": 77.862,
        "timm-tf_adv_in1k": 77.592, "timm-gluon_in1k": 78.806, "slim-2016": 78.0,
    }  # fmt: skip
    assert all(CATALOG[tag].top1_source and CATALOG[tag].classes for tag in top1)
    assert all(entry.licence for entry in CATALOG.values())


def test_names_in_a_cache_differ_and_keep_their_endings(tmp_path: Path) -> None:
    paths = [
        entry.cached_path(origin, tmp_path).name
        for entry in CATALOG.values()
        for origin in entry.origins
    ]
    assert paths[:2] == ["imagenet-bcbd6486424b2319.h5", "imagenet-476acc2af18c5830.h5"]
    assert "torchvision-0cc3c7bd.pth" in paths
    # pytorch-fid's file is torch-fidelity's under another name
    assert len(set(paths)) == len(paths) - 1
    assert {Path(path).suffix for path in paths} == {".h5", ".pth", ".safetensors", ".ckpt", ".pb", ".pt"}  # fmt: skip # noqa: E501


def test_rows_are_plain_data(tmp_path: Path) -> None:
    entry = CATALOG["fid"]
    entry.cached_path(entry.origins[0], tmp_path).write_bytes(b"")
    rows = json.loads(json.dumps(catalog_rows(tmp_path)))
    assert [row["tag"] for row in rows] == list(CATALOG)
    assert [row["tag"] for row in rows if row["cached"]] == ["fid"]
    fid = next(row for row in rows if row["tag"] == "fid")
    assert fid["variant"]["last_pool"] == "max"
    assert fid["origins"][0]["checksum"] == "6726825d"
    assert (fid["classes"], fid["aux_head"], fid["top1"]) == (1008, False, None)


def test_unknown_tag_is_told_the_known_ones() -> None:
    with pytest.raises(
        WeightsError, match=r"imagenette: found no such tag, expected one of imagenet, keras-top"
    ):
        fetch("imagenette")


def test_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THYROJAX_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/user")
    assert catalog.cache_folder() == Path("/home/user/.cache/thyrojax")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says to ignore such
    assert catalog.cache_folder() == Path("/home/user/.cache/thyrojax")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert catalog.cache_folder() == Path("/caches/thyrojax")
    monkeypatch.setenv("THYROJAX_CACHE", "/own")
    assert catalog.cache_folder() == Path("/own")
