"""The description of the network is that of the network: counts and shapes from outside."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest

from thyrojax.model import InceptionV3
from thyrojax.model.architecture import describe

KERAS_PARAMETERS = 21_802_784  # keras.applications.InceptionV3(include_top=False).count_params()
TORCHVISION_PARAMETERS = 27_161_264  # torchvision.models.inception_v3(num_classes=1000), learned


def described(size: int = 299, channels: int = 3, **options: object) -> dict:
    images = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    return describe(InceptionV3(**options), images)


@pytest.fixture(scope="module")
def two_classes() -> dict:
    return described(num_classes=2)


def stage(structure: dict, name: str) -> dict:
    (found,) = (one for one in structure["stages"] if one["name"] == name)
    return found


def layers(branch: list[dict]) -> list[tuple]:
    return [(one["kind"], one["kernel"], one["stride"], one["output"]) for one in branch]


def test_trunk_has_the_parameters_that_keras_counts(two_classes: dict) -> None:
    head = 2048 * 2 + 2
    scales = two_classes["statistics"] // 2  # one for each mean and variance; Keras has none
    trunk = two_classes["parameters"] - head + two_classes["statistics"] - scales
    assert trunk == KERAS_PARAMETERS
    assert sum(one["parameters"] for one in two_classes["stages"]) == two_classes["parameters"]


def test_auxiliary_head_has_torchvisions_parameters_and_hangs_on_the_last_17_grid() -> None:
    structure = described(num_classes=1000, aux_head=True)
    assert structure["parameters"] == TORCHVISION_PARAMETERS
    head = stage(structure, "AuxLogits")
    assert (head["follows"], head["endpoint"]) == ("Mixed_6e", "aux_logits")
    assert stage(structure, "Mixed_7a")["follows"] == "Mixed_6e"
    assert [one["output"] for one in head["branches"][0]] == [
        [5, 5, 768], [5, 5, 128], [1, 1, 768], [768], [1000]
    ]  # fmt: skip


def test_shapes_are_those_of_table_1_of_szegedy_2016(two_classes: dict) -> None:
    outputs = [one["output"] for one in two_classes["stages"]]
    assert outputs == [
        [149, 149, 32], [147, 147, 32], [147, 147, 64], [73, 73, 80], [71, 71, 192],
        [35, 35, 256], [35, 35, 288], [35, 35, 288],
        [17, 17, 768], [17, 17, 768], [17, 17, 768], [17, 17, 768], [17, 17, 768],
        [8, 8, 1280], [8, 8, 2048], [8, 8, 2048],
        [2048], [2],
    ]  # fmt: skip
    for before, after in zip(two_classes["stages"], two_classes["stages"][1:], strict=False):
        assert after["follows"] == before["name"]
    assert two_classes["stages"][0]["follows"] == "images"


def test_pools_between_stages_are_seen(two_classes: dict) -> None:
    pools = {one["name"]: layers(one["before"]) for one in two_classes["stages"] if one["before"]}
    assert pools == {
        "Conv2d_3b_1x1": [("maximum pool", [3, 3], 2, [73, 73, 64])],
        "Mixed_5b": [("maximum pool", [3, 3], 2, [35, 35, 192])],
        "BatchDropout_0": [("mean over the grid", None, None, [2048])],
    }


def test_a_block_has_its_branches_with_the_pool_before_its_convolution(two_classes: dict) -> None:
    grid = [17, 17]
    assert [layers(branch) for branch in stage(two_classes, "Mixed_6b")["branches"]] == [
        [("convolution", [1, 1], 1, [*grid, 192])],
        [
            ("convolution", [1, 1], 1, [*grid, 128]),
            ("convolution", [1, 7], 1, [*grid, 128]),
            ("convolution", [7, 1], 1, [*grid, 192]),
        ],
        [
            ("convolution", [1, 1], 1, [*grid, 128]),
            ("convolution", [7, 1], 1, [*grid, 128]),
            ("convolution", [1, 7], 1, [*grid, 128]),
            ("convolution", [7, 1], 1, [*grid, 128]),
            ("convolution", [1, 7], 1, [*grid, 192]),
        ],
        [("average pool", [3, 3], 1, [*grid, 768]), ("convolution", [1, 1], 1, [*grid, 192])],
    ]


def test_a_branch_may_be_a_pool_alone(two_classes: dict) -> None:
    branches = stage(two_classes, "Mixed_6a")["branches"]
    assert layers(branches[-1]) == [("maximum pool", [3, 3], 2, [17, 17, 288])]
    assert sum(branch[-1]["output"][-1] for branch in branches) == 768


def test_branches_that_part_late_share_their_first_layers(two_classes: dict) -> None:
    names = [
        [one["name"] for one in branch] for branch in stage(two_classes, "Mixed_7b")["branches"]
    ]
    assert names == [
        ["branch1x1"],
        ["branch3x3_1", "branch3x3_2a"],
        ["branch3x3_1", "branch3x3_2b"],
        ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a"],
        ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3b"],
        ["", "branch_pool"],
    ]


def test_the_network_of_2015_ends_in_a_maximum(two_classes: dict) -> None:
    structure = described(num_classes=2, last_pool="max")
    assert stage(structure, "Mixed_7c")["branches"][-1][0]["kind"] == "maximum pool"
    assert stage(structure, "Mixed_7b")["branches"][-1][0]["kind"] == "average pool"


def test_input_size_channels_and_width_are_followed() -> None:
    structure = described(384, 1, num_classes=2, depth_multiplier=0.5)
    assert structure["input"] == [384, 384, 1]
    first = stage(structure, "Conv2d_1a_3x3")
    assert first["output"] == [191, 191, 16]
    assert first["parameters"] == 3 * 3 * 1 * 16 + 2 * 16
    assert stage(structure, "Mixed_7c")["output"] == [10, 10, 1024]


def test_endpoints_are_the_models_own(two_classes: dict) -> None:
    ends = [one["endpoint"] for one in two_classes["stages"] if one["endpoint"]]
    assert ends == [*(f"mixed{number}" for number in range(11)), "logits"]


def test_it_is_json(two_classes: dict) -> None:
    assert json.loads(json.dumps(two_classes)) == two_classes
