"""The `weights` commands as a user runs them: what they print, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from thyrojax.cli import main
from thyrojax.weights import CATALOG, VARIANTS, Weights, names, write

NARROW = ["--depth-multiplier", "0.05"]
TOOL = Path(__file__).parents[1] / "tools" / "convert_weights.py"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Narrow weights of 1001 classes with an auxiliary head, in our own form."""
    shapes = names.trunk_shapes(0.05) | names.head_shapes(1001, 0.05) | names.aux_shapes(1001, 0.05)
    rng = np.random.default_rng(0)
    arrays = {
        path: np.ones(shape, np.float32)
        if path.endswith(("scale", "var"))
        else rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32)
        for path, shape in shapes.items()
    }
    given = Weights(
        arrays, VARIANTS["slim"], "none", (), {}, Path("nowhere"), "0" * 64, depth_multiplier=0.05
    )
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    write(given, path)
    return path


def run(*arguments: object) -> int:
    return main(["weights", *map(str, arguments)])


def test_inspect_says_what_a_file_is(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", file, *NARROW) == 0
    printed = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line[0] != " "
    )
    assert printed["format"].startswith("flax (")
    assert printed["pooling"] == "valid, last block average"
    assert printed["preprocessing"] == "x/127.5-1, RGB"
    assert printed["classifier"] == "1001 classes, auxiliary head"
    assert len(printed["sha256"]) == 64
    assert run("inspect", file, "--json", *NARROW) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["classes"], found["aux_head"], found["channels"]) == (1001, True, 3)
    assert found["variant"]["epsilon"] == 1e-3


def test_convert_compare_and_back(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "net.h5"
    assert run("convert", file, target, "--classes", "1000", *NARROW) == 0
    out = capsys.readouterr().out
    assert "used   484 keys" in out
    assert "class 0 (background) dropped" in out
    assert "AuxLogits: left out" in out
    assert "probe  pool: largest difference 0.0e+00" in out
    assert run("compare", file, target, *NARROW, "--no-probe") == 0
    out = capsys.readouterr().out
    assert out.startswith("verdict  same trunk")
    assert "params/fc/bias shape" in out
    back = tmp_path / "net.safetensors"
    assert run("convert", target, back, *NARROW, "--no-probe") == 0
    capsys.readouterr()
    assert run("compare", target, back, *NARROW) == 0
    assert capsys.readouterr().out.startswith("verdict  identical")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "none.h5"], "none.h5: found no such file or tag, expected a file"),
        (["convert", "FILE", "x.h5", "--to", "caffe"], "format: found 'caffe', expected one of"),
        (["convert", "FILE", "x.doc"], "x.doc: found an ending that names no format"),
        (["compare", "FILE", "none"], "none: found no such file or tag"),
        (["classify", "FILE", "none.png"], "none.png: found"),
        (["fetch", "vgg16"], "vgg16: found no such tag, expected one of"),
        (["inspect", "FILE", "--variant", "v4"], "variant: found 'v4', expected one of"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    file: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(file) if argument == "FILE" else argument for argument in arguments]
    if given[0] != "fetch":
        given += NARROW
    assert run(*given) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err


def test_existing_target_is_kept_unless_forced(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "net.pth"
    target.write_bytes(b"precious")
    assert run("convert", file, target, *NARROW) == 2
    assert target.read_bytes() == b"precious"
    assert run("convert", file, target, "--force", "--no-probe", *NARROW) == 0
    assert target.stat().st_size > 1e6
    assert "expected a new name, or --force" in capsys.readouterr().err


def test_list_names_every_tag(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["TAG", "CLASSES"]
    assert {"imagenet", "torchvision", "fid"} <= {line.split()[0] for line in lines[1:]}


def test_list_tells_all_of_one_tag(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "timm-gluon_in1k") == 0
    out = capsys.readouterr().out
    assert "(x/255-mean)/std" in out
    assert "from           https://" in out
    assert run("list", "vgg16") == 2
    assert "vgg16: found no such tag" in capsys.readouterr().err
    assert run("list", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) >= 10


def test_verify_names_what_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THYROJAX_CACHE", str(tmp_path))
    assert run("verify") == 0
    assert capsys.readouterr().out == "nothing is cached\n"
    origin = CATALOG["torchvision"].origins[0]
    path = CATALOG["torchvision"].cached_path(origin, tmp_path)
    path.write_bytes(b"half")
    assert run("verify") == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("damaged  torchvision")
    assert captured.err == (f"thyrojax: found 1 damaged files, expected none: {path}\n")


def test_tool_is_the_same_command(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "net.pth"
    command = [sys.executable, TOOL, file, target, "--no-probe", *NARROW]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"to    {target} (torchvision)" in done.stdout
    assert target.exists()
