"""The network as Keras has it, against what Keras 3.15.1 itself says of its own InceptionV3."""

from __future__ import annotations

import pytest

from thyrojax.weights.formats.keras_vars import array_paths
from thyrojax.weights.keras_graph import model_layers, order_in_files, paths, snake_case

# The beginning of `[layer.name for layer in keras.applications.InceptionV3().layers]`.
FIRST_LAYERS = """
input_layer conv2d batch_normalization activation conv2d_1 batch_normalization_1 activation_1
conv2d_2 batch_normalization_2 activation_2 max_pooling2d conv2d_3 batch_normalization_3
activation_3 conv2d_4 batch_normalization_4 activation_4 max_pooling2d_1 conv2d_8
batch_normalization_8 activation_8 conv2d_6 conv2d_9 batch_normalization_6 batch_normalization_9
activation_6 activation_9 average_pooling2d conv2d_5 conv2d_7 conv2d_10 conv2d_11
batch_normalization_5 batch_normalization_7 batch_normalization_10 batch_normalization_11
activation_5 activation_7 activation_10 activation_11 mixed0 conv2d_15
"""
# Its end, and the names of its joins.
LAST_LAYERS = ["mixed9_1", "concatenate_1", "activation_93", "mixed10", "avg_pool", "predictions"]
JOINS = [
    *(f"mixed{i}" for i in range(9)), "mixed9_0", "concatenate", "mixed9", "mixed9_1",
    "concatenate_1", "mixed10",
]  # fmt: skip


def test_layers_are_those_of_keras_in_its_order() -> None:
    layers = model_layers(head=True)
    names = [layer.name for layer in layers]
    assert len(names) == 313
    assert names[:42] == FIRST_LAYERS.split()
    assert names[-len(LAST_LAYERS) :] == LAST_LAYERS
    assert [layer.name for layer in layers if layer.kind == "Concatenate"] == JOINS


def test_layers_are_numbered_in_their_names_by_creation() -> None:
    units = {layer.name: layer.unit for layer in model_layers() if layer.unit}
    expected = {
        "conv2d": "Conv2d_1a_3x3",
        "conv2d_5": "Mixed_5b/branch1x1",
        "batch_normalization_8": "Mixed_5b/branch3x3dbl_1",
        "conv2d_29": "Mixed_6a/branch3x3dbl_3",
        "conv2d_93": "Mixed_7c/branch_pool",
    }
    for name, path in expected.items():
        unit = units[name]
        assert unit is not None
        assert unit.path == path


def test_files_number_layers_in_the_models_order() -> None:
    """Names under `layers/` of a file by `save_weights`, and the layer's own name beside it."""
    names = {path: layer.name for path, layer in paths(model_layers(head=True)).items()}
    assert names["layers/conv2d_5"] == "conv2d_8"
    assert names["layers/batch_normalization_8"] == "batch_normalization_5"
    assert names["layers/conv2d_92"] == "conv2d_85"
    assert names["layers/concatenate_9"] == "mixed9_0"
    assert names["layers/dense"] == "predictions"
    assert names["layers/global_average_pooling2d"] == "avg_pool"


def test_order_in_files_is_a_permutation_within_blocks() -> None:
    order = order_in_files()
    assert sorted(order) == list(range(94))
    assert order[5:12] == (8, 6, 9, 5, 7, 10, 11)  # Mixed_5b


def test_padding_goes_into_layers_of_its_own_and_leaves_the_order() -> None:
    padded = model_layers(pooling="padded", last_pool="max")
    kinds = [layer.kind for layer in padded]
    assert kinds.count("ZeroPadding2D") == kinds.count("AveragePooling2D") == 8
    assert kinds.count("MaxPooling2D") == 5
    units = [[n.unit for n in ns if n.kind == "Conv2D"] for ns in (padded, model_layers())]
    assert units[0] == units[1]


def test_arrays_are_in_keras_order() -> None:
    norm = next(layer for layer in model_layers() if layer.kind == "BatchNormalization")
    assert list(array_paths(norm, has_scales=False)) == ["beta", "moving_mean", "moving_variance"]
    assert next(iter(array_paths(norm, has_scales=True))) == "gamma"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Conv2D", "conv2d"),
        ("BatchNormalization", "batch_normalization"),
        ("GlobalAveragePooling2D", "global_average_pooling2d"),
        ("PReLU", "p_re_lu"),
        ("InputLayer", "input_layer"),
    ],
)
def test_classes_are_spelt_as_keras_spells_them(kind: str, name: str) -> None:
    assert snake_case(kind) == name
