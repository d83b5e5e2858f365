"""Keras 3's .keras: what its description of the model tells, and archives that are wrong."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hostile
from thyrojax.errors import WeightsError
from thyrojax.weights import read
from thyrojax.weights.formats import keras_config, keras_zip
from thyrojax.weights.types import Arrays, Variant

NARROW = 0.05
MODEL, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

Layers = list[dict[str, Any]]
Write = Callable[[Path, dict[str, bytes]], None]


@pytest.fixture(scope="module")
def contents(
    new_arrays: Callable[..., Arrays], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files in a valid archive of a network with five classes; without our description."""
    path = tmp_path_factory.mktemp("keras") / "plain.keras"
    keras_zip.write(path, new_arrays(classes=5), Variant("valid"), {})
    with zipfile.ZipFile(path) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    return found | {METADATA: b'{"keras_version": "3.15.1"}'}


def pack(path: Path, contents: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


@pytest.fixture
def changed_model(
    contents: dict[str, bytes], tmp_path: Path
) -> Callable[[Callable[[Layers], None]], Path]:
    """An archive whose description of the model is changed: a list of layers."""

    def change(function: Callable[[Layers], None]) -> Path:
        model = json.loads(contents[MODEL])
        function(model["config"]["layers"])
        pack(tmp_path / "new.keras", contents | {MODEL: json.dumps(model).encode()})
        return tmp_path / "new.keras"

    return change


ChangedModel = Callable[[Callable[[Layers], None]], Path]


def of_kind(layers: Layers, kind: str) -> Layers:
    return [layer for layer in layers if layer["class_name"] == kind]


def new_layer(kind: str, **settings: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": settings, "name": kind.lower(), "inbound_nodes": []}


def test_variant_is_that_of_the_described_model(changed_model: ChangedModel) -> None:
    def change(layers: Layers) -> None:
        for layer in of_kind(layers, "BatchNormalization"):
            layer["config"]["epsilon"] = 0.002
        of_kind(layers, "AveragePooling2D")[-1]["class_name"] = "MaxPooling2D"
        for layer in of_kind(layers, "AveragePooling2D"):
            layer["config"]["padding"] = "valid"
            layers.insert(1, new_layer("ZeroPadding2D", padding=[[1, 1], [1, 1]]))

    weights = read(changed_model(change), depth_multiplier=NARROW)
    assert weights.variant == Variant("padded", "max", 0.002)
    assert weights.classes == 5
    assert {key: reason for key, reason in weights.ignored.items() if "layers" not in key} == {
        "vars": "no parameters",
        MODEL: "description of the model: only its layers' names and options were looked at",
        METADATA: "date and version",
    }


@pytest.mark.parametrize(
    ("settings", "preprocessing"),
    [
        ({"scale": 1 / 127.5, "offset": -1}, "x/127.5-1"),
        ({"scale": 0.00392156862745098, "offset": 0.0}, "x/255"),
        ({"scale": 0.0078125, "offset": -1.0}, "(x-128)/128"),
    ],
)
def test_rescaling_within_the_model_is_its_preprocessing(
    changed_model: ChangedModel, settings: dict[str, float], preprocessing: str
) -> None:
    path = changed_model(lambda layers: layers.insert(1, new_layer("Rescaling", **settings)))
    assert read(path, depth_multiplier=NARROW).variant.preprocessing == preprocessing


def test_rescaling_to_something_unknown_is_refused(changed_model: ChangedModel) -> None:
    path = changed_model(lambda layers: layers.insert(1, new_layer("Rescaling", scale=2.0)))
    with pytest.raises(WeightsError, match=r"found 1 Rescaling layers, the first with scale and"):
        read(path, depth_multiplier=NARROW)


def test_code_and_foreign_classes_are_names_like_others(
    changed_model: ChangedModel, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    code = {"class_name": "__lambda__", "config": {"code": f"open({str(marker)!r}, 'w')"}}

    def change(layers: Layers) -> None:
        layers.insert(1, new_layer("Lambda", function=code))
        layers.insert(1, new_layer("Mine") | {"module": "os", "registered_name": "os>system"})

    assert read(changed_model(change), depth_multiplier=NARROW).classes == 5
    assert not marker.exists()


def test_head_on_something_else_than_the_mean_is_foreign(changed_model: ChangedModel) -> None:
    def change(layers: Layers) -> None:
        of_kind(layers, "GlobalAveragePooling2D")[0]["class_name"] = "GlobalMaxPooling2D"

    weights = read(changed_model(change), depth_multiplier=NARROW)
    assert weights.classes == 0
    assert weights.ignored["layers/dense/vars/0"] == "foreign head: dense layer"


def test_network_within_another_model_is_described_there(
    contents: dict[str, bytes], tmp_path: Path
) -> None:
    """Its arrays are not moved with it here, so that only the place of the description tells."""
    model = json.loads(contents[MODEL])
    layers = keras_config.parse(json.dumps({"config": {"layers": [new_layer("Dropout"), model]}}))
    paths = [layer.path for layer in layers]
    assert paths[:3] == [
        "layers/dropout",
        "layers/functional",
        "layers/functional/layers/input_layer",
    ]
    assert "layers/functional/layers/conv2d_93" in paths


def test_other_files_of_the_archive_are_named(contents: dict[str, bytes], tmp_path: Path) -> None:
    pack(tmp_path / "new.keras", contents | {"assets/words.txt": b"x"})
    weights = read(tmp_path / "new.keras", depth_multiplier=NARROW)
    assert weights.ignored["assets/words.txt"] == "asset"
    assert [path.name for path in tmp_path.iterdir()] == ["new.keras"]


def test_deflated_archives_are_read(contents: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "new.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    assert read(path, depth_multiplier=NARROW).classes == 5


def epsilons(layers: Layers) -> None:
    of_kind(layers, "BatchNormalization")[3]["config"]["epsilon"] = 0.5


def infinite_epsilon(layers: Layers) -> None:
    for layer in of_kind(layers, "BatchNormalization"):
        layer["config"]["epsilon"] = [float("inf")]


def scales(layers: Layers) -> None:
    for layer in of_kind(layers, "BatchNormalization"):
        del layer["config"]["scale"]


def uncentred(layers: Layers) -> None:
    of_kind(layers, "BatchNormalization")[3]["config"]["center"] = False


def other_pools(layers: Layers) -> None:
    of_kind(layers, "AveragePooling2D")[2]["class_name"] = "MaxPooling2D"


def wide_pools(layers: Layers) -> None:
    of_kind(layers, "AveragePooling2D")[2]["config"]["pool_size"] = [5, 5]


def classless(layers: Layers) -> None:
    del layers[7]["class_name"]


def endless(layers: Layers) -> None:
    layers.extend([new_layer("Dropout")] * 5000)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (epsilons, r"model: found epsilon 0\.001, 0\.5, expected one number between 0 and 1"),
        (infinite_epsilon, r"model: found epsilon \[inf\], expected one number"),
        (scales, r"model: found a description that disagrees with the arrays on BatchNorm's gamma"),
        (uncentred, r"model: found BatchNorm layers without beta"),
        (other_pools, r"model: found pools of stride 1 that are not Inception-v3's \(9 of them"),
        (wide_pools, r"model: found pools of stride 1 that are not Inception-v3's \(8 of them"),
        (classless, r"config\.json: found a model's layer without a class"),
        (endless, r"config\.json: found a model of over 5000 layers"),
    ],
)
def test_model_of_another_function_is_refused(
    changed_model: ChangedModel, change: Callable[[Layers], None], pattern: str
) -> None:
    assert_refused(changed_model(change), pattern)


def assert_refused(path: Path, pattern: str) -> None:
    hostile.assert_refused(lambda p: read(p, depth_multiplier=NARROW), path, pattern)


def replaced(name: str, content: bytes) -> Write:
    return lambda path, contents: pack(path, contents | {name: content})


def without(*names: str) -> Write:
    return lambda path, contents: pack(
        path, {name: content for name, content in contents.items() if name not in names}
    )


def twice(path: Path, contents: dict[str, bytes]) -> None:
    pack(path, contents)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(WEIGHTS, contents[WEIGHTS])


def bomb(path: Path, contents: dict[str, bytes]) -> None:
    """A few kB that expand to 64 MB."""
    pack(path, {METADATA: contents[METADATA], MODEL: contents[MODEL]})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(WEIGHTS, bytes(2**26))


def entry_changed(offset: int, value: bytes) -> Write:
    """Changes one field of the entry of the arrays in the list of files."""

    def write(path: Path, contents: dict[str, bytes]) -> None:
        pack(path, contents)
        content = bytearray(path.read_bytes())
        at = content.rindex(WEIGHTS.encode()) - 46 + offset
        content[at : at + len(value)] = value
        path.write_bytes(content)

    return write


def endless_directory(path: Path, contents: dict[str, bytes]) -> None:
    pack(path, contents)
    content = bytearray(path.read_bytes())
    content[-10:-6] = struct.pack("<L", 2**30)
    path.write_bytes(content)


def cut(path: Path, contents: dict[str, bytes]) -> None:
    pack(path, contents)
    path.write_bytes(path.read_bytes()[:-30])


def flipped(path: Path, contents: dict[str, bytes]) -> None:
    pack(path, contents)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def leaving(path: Path, contents: dict[str, bytes]) -> None:
    pack(path, contents | {"assets/../../evil": b"x"})


HOSTILE: dict[str, tuple[Write, str]] = {
    "no arrays": (without(WEIGHTS), r"found no model\.weights\.h5, expected both"),
    "no model": (without(MODEL), r"found no config\.json, expected both"),
    "arrays twice": (twice, r"found the entry 'model\.weights\.h5' twice, expected each once"),
    "file that leaves the archive": (leaving, r"found the entry 'assets/\.\./\.\./evil', expected"),
    "arrays that are none": (replaced(WEIGHTS, b"text"), r"found a damaged HDF5 file"),
    "model that is no JSON": (replaced(MODEL, b"{"), r"config\.json: found a model's desc.* not"),
    "model without end": (replaced(MODEL, b"[" * 100_000), r"config\.json: found .* not JSON"),
    "about that is no JSON": (replaced(METADATA, b"\xff"), r"metadata\.json: found text that is"),
    "our description of nonsense": (
        replaced(METADATA, b'{"thyrojax": [1]}'),
        r"found a description that cannot be read",
    ),
    "our description of another network": (
        replaced(METADATA, b'{"thyrojax": {"variant": {"epsilon": 0.5}}}'),
        r"description: found valid, average, epsilon 0\.5, expected valid, average, 0\.001 as of",
    ),
    "giant model": (replaced(MODEL, bytes(2**23 + 1)), r"found config\.json of 8388609 bytes"),
    "bomb": (bomb, r"found model\.weights\.h5 of 67108864 bytes, expected at most"),
    "size that lies": (
        entry_changed(24, struct.pack("<L", 2**31)),
        r"found model\.weights\.h5 stored in \d+ bytes, expected its 2147483648",
    ),
    "place that lies": (entry_changed(42, struct.pack("<L", 10)), r"found no header of model\.w"),
    "encrypted": (entry_changed(8, b"\x01"), r"found model\.weights\.h5 encrypted"),
    "compressed otherwise": (entry_changed(10, b"\x0c"), r"compressed by method 12, expected"),
    "list of files without end": (endless_directory, r"directory takes 1073741824 bytes"),
    "cut off": (cut, r"found an archive that is cut off"),
    "one bit wrong": (flipped, r"found model\.weights\.h5 damaged: its checksum is"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_hostile_archive_is_refused(contents: dict[str, bytes], tmp_path: Path, fault: str) -> None:
    make, pattern = HOSTILE[fault]
    make(tmp_path / "new.keras", contents)
    assert_refused(tmp_path / "new.keras", pattern)


def test_other_zips_are_not_claimed(tmp_path: Path) -> None:
    for name in ("archive/data.pkl", "arr_0.npy", "xmodel.weights.h5"):
        pack(tmp_path / "other.zip", {name: b"x"})
        assert not keras_zip.recognises(tmp_path / "other.zip")
    assert not keras_zip.recognises(tmp_path)
    (tmp_path / "empty").touch()
    assert not keras_zip.recognises(tmp_path / "empty")


def test_damaged_archives_are_read_or_refused(contents: dict[str, bytes], tmp_path: Path) -> None:
    pack(tmp_path / "new.keras", contents)
    counts = hostile.fuzz(
        tmp_path / "new.keras",
        lambda path: read(path, depth_multiplier=NARROW),
        n=200,
        max_seconds=3.0,
    )
    assert sum(counts.values()) == 200
    assert counts["refused"] > 100


def test_descriptions_of_anything_are_read_or_refused(contents: dict[str, bytes]) -> None:
    """JSON that is whole, with values of any kind in the place of others."""
    values: list[Any] = [
        None,
        True,
        -1,
        1e999,
        "",
        "conv2d",
        "Functional",
        [],
        {},
        [[]],
        {"layers": [1]},
    ]
    keys = ["epsilon", "scale", "center", "strides", "pool_size", "padding", "name", "layers"]
    rng = np.random.default_rng(0)
    trunk = {layer.path for layer in keras_config.parse(contents[MODEL]) if "Batch" in layer.kind}
    assert len(trunk) == 94
    refused = 0
    for _ in range(80):
        model = json.loads(contents[MODEL])
        for _ in range(int(rng.integers(1, 4))):
            layers = model["config"]["layers"]
            at, value = int(rng.integers(len(layers))), values[int(rng.integers(len(values)))]
            if rng.random() < 0.5 and isinstance(layers[at], dict):
                layers[at]["config"] = {keys[int(rng.integers(len(keys)))]: value}
            elif rng.random() < 0.5 and isinstance(layers[at], dict):
                layers[at][("class_name", "config")[int(rng.integers(2))]] = value
            else:
                layers[at] = value
        faults: list[str] = []
        try:
            found = keras_config.parse(json.dumps(model))
            keras_config.read_variant(found, trunk, False, faults)
            keras_config.has_plain_head(found, trunk)
        except ValueError:
            faults.append("JSON")
        refused += bool(faults)
    assert 20 < refused < 80
