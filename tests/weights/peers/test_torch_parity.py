"""PyTorch's own classes against ours: torchvision, timm and the FID network, both ways.

Files that we write are loaded by them with `strict=True`; files that they save are read by us. Same
pooled features and logits, in float32, to 1e-5 of the largest value.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thyrojax.weights import VARIANTS, Variant, Weights, read, write
from thyrojax.weights.comparison import outputs, outputs_difference
from thyrojax.weights.types import Arrays

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5
ENDINGS = {"torchvision": ".pth", "timm": ".safetensors", "fid": ".pth"}
OTHER_SIZE = 139


def job(name: str, make: str, classes: int, aux: bool, images: str, **more: Any) -> dict[str, Any]:
    given = {"name": name, "make": make, "classes": classes, "aux": aux, "images": images}
    return {"preprocessing": "x/127.5-1", **given, **more}


# Networks with random weights that we write: name, class, classes, auxiliary head.
WRITTEN = [
    ("torchvision 1000", "torchvision", 1000, True),
    ("torchvision 2", "torchvision", 2, False),
    ("timm 1000", "timm", 1000, True),
    ("fid 1008", "fid", 1008, False),
    ("fid none", "fid", 0, False),
]
# Networks of theirs that they save, and how.
SAVED = [
    ("zip", "torchvision", 1000, True, "zip.pth"),
    ("legacy", "torchvision", 1000, False, "legacy.pth"),
    ("parallel", "torchvision", 7, True, "parallel.pth"),
    ("wrapped", "torchvision", 2, False, "wrapped.pth"),
    ("script", "torchvision", 2, False, "script.pt"),
    ("safetensors", "timm", 1000, False, "timm.safetensors"),
    ("zip", "fid", 1008, False, "fid.pth"),
]


@pytest.fixture(scope="module")
def images(shared: Path) -> dict[str, np.ndarray]:
    """Photographs and noise at 299 px, and each at another size."""
    with np.load(shared / "golden" / "inception_v3_imagenet.npz") as golden:
        whole = golden["input_uint8"]
    rng = np.random.default_rng(0)
    return {
        "whole": whole,
        "crop": whole[:2, 48:251, 48:251],
        "other": rng.integers(0, 256, (2, OTHER_SIZE, OTHER_SIZE, 3)).astype(np.uint8),
    }


def written_weights(arrays: Arrays, variant: Variant) -> Weights:
    return Weights(arrays, variant, "none", (), {}, Path("nowhere"), "")


@pytest.fixture(scope="module")
def peers(
    shared: Path,
    torch_python: Path,
    images: dict[str, np.ndarray],
    new_arrays: Callable[..., Arrays],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, np.ndarray], dict[str, Weights]]:
    """The folder of all files, torch's answers, and the weights that we wrote."""
    folder = tmp_path_factory.mktemp("torch")
    np.savez(folder / "images.npz", **images)
    jobs: list[dict[str, Any]] = []
    ours: dict[str, Weights] = {}

    def add(name: str, weights: Weights, make: str, aux: bool, size: str) -> None:
        path = folder / f"{name.replace(' ', '_')}{ENDINGS[make]}"
        if not path.exists():
            write(weights, path, make)
        ours[f"{name} {size}"] = weights
        jobs.append(job(f"{name} {size}", make, weights.classes, aux, size, load=str(path)))

    for name, make, classes, aux in WRITTEN:
        arrays = new_arrays(1.0, classes, aux, scales=True)
        # The auxiliary head's grid at other sizes is no concern of an evaluation.
        add(name, written_weights(arrays, VARIANTS[make]), make, aux, "other")
    base = read(shared / "weights" / "keras" / "inceptionv3_v1.h5")
    with np.load(shared / "weights" / "slim" / "imagenet_head_1001.npz") as head:
        fc = {f"params/fc/{name}": head[name] for name in ("kernel", "bias")}
    for make in ENDINGS:
        real = replace(base, arrays=base.arrays | fc, variant=VARIANTS[make])
        add(f"{make} real", real, make, False, "whole")
        add(f"{make} real", real, make, False, "crop")
    for how, make, classes, aux, file in SAVED:
        more = {"save": file, "how": how}
        jobs.append(job(file, make, classes, aux, "other", **more))
    (folder / "jobs.json").write_text(json.dumps(jobs))
    script = Path(__file__).with_name("torch_side.py")
    done = subprocess.run(
        [torch_python, script, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / "answers_torch.npz") as file:
        return folder, dict(file), ours


def check(weights: Weights, images: np.ndarray, answers: dict[str, np.ndarray], name: str) -> None:
    theirs = {
        output: answers[f"{name}/{output}"]
        for output in ("pool", "logits")
        if f"{name}/{output}" in answers
    }
    found = outputs_difference(theirs, outputs(weights, images))
    print(f"{name}: {found}")  # `pytest -rP` shows the figures
    assert found.keys() == theirs.keys()
    assert max(found.values()) <= TOLERANCE, found


REAL = [(f"{make} real", make, size) for make in ENDINGS for size in ("whole", "crop")]


@pytest.mark.parametrize(
    ("name", "make", "size"), [*REAL, *((name, make, "other") for name, make, *_ in WRITTEN)]
)
def test_files_of_ours_are_the_same_network_in_torch(
    peers: Any, images: dict[str, np.ndarray], name: str, make: str, size: str
) -> None:
    _, answers, ours = peers
    check(ours[f"{name} {size}"], images[size], answers, f"{name} {size}")


@pytest.mark.parametrize(("how", "make", "classes", "aux", "file"), SAVED)
def test_files_of_torchs_are_the_same_network_here(
    peers: Any,
    images: dict[str, np.ndarray],
    how: str,
    make: str,
    classes: int,
    aux: bool,
    file: str,
) -> None:
    folder, answers, _ = peers
    weights = read(folder / file)
    assert weights.classes == classes
    assert weights.has_aux_head == aux
    assert (weights.variant.pooling == "padded") == (make != "fid")
    check(weights, images["other"], answers, file)


def test_padding_and_last_pool_matter(peers: Any, images: dict[str, np.ndarray]) -> None:
    """A network under another framework's pooling answers otherwise, so those tests can fail."""
    _, answers, ours = peers
    wrong = replace(ours["fid real crop"], variant=VARIANTS["keras"])
    theirs = {"pool": answers["fid real crop/pool"]}
    assert outputs_difference(theirs, outputs(wrong, images["crop"]))["pool"] > 0.01
