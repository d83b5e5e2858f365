"""Two real processes that train one run: equal to one, each with its rows, ending together."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from thyrojax.config import Config
from thyrojax.data import splits
from thyrojax.data.dataset import open_dataset
from thyrojax.data.stream import TrainFeed
from thyrojax.errors import ConfigError
from thyrojax.presets import load_preset
from thyrojax.train.distributed import Processes
from thyrojax.trained_run import restore_run

TOOL = Path(__file__).parents[2] / "tools" / "two_processes.py"
STEPS = 6

# The command, which tells which rows of which batches it cut, and how many frames it read.
TELLING = """
import json, sys
from pathlib import Path
from thyrojax.cli import main
from thyrojax.data import stream

cut, rows, frames = stream.TrainFeed._cut, [], []
stream.TrainFeed._cut = lambda self, seed, step, numbers: (
    rows.append((step, numbers.tolist())), cut(self, seed, step, numbers))[1]
crop = stream._crop
stream._crop = lambda dataset, index, *rest: (frames.append(index), crop(dataset, index, *rest))[1]
told = Path(sys.argv.pop(1))
status = main(sys.argv[1:])
told.write_text(json.dumps({"rows": rows, "frames": frames}))
sys.exit(status)
"""


@pytest.fixture(scope="module")
def damaged_set(tmp_path_factory: pytest.TempPathFactory, story_config: Config) -> Path:
    """A set with one unreadable record of more than 100 for training, the last row of batch 1."""
    from thyrojax.data.builder import build
    from thyrojax.data.sources.phantom import read

    folder = build(read(n_patients=125), tmp_path_factory.mktemp("sets") / "damaged", False)
    dataset = open_dataset(folder)
    rows = splits.draw_split(dataset.records, story_config, dataset.near_duplicates)["train"]
    bad = TrainFeed(dataset, rows, story_config).draws(story_config.seed, 1)["index"][-1]
    head = dataset._encoded(int(bad))[:1500]  # further on, the file's own marks may lie between
    damaged = 0
    for shard in folder.glob("*.array_record*"):
        content = bytearray(shard.read_bytes())
        if (place := content.find(head)) >= 0:
            content[place + 1000] ^= 255
            shard.write_bytes(content)
            damaged += 1
    assert damaged == 1
    return folder


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("two_processes", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def story_config(tool: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Config:
    preset = tmp_path_factory.mktemp("presets") / "preset.py"
    preset.write_text(tool.PRESET.format(steps=STEPS))
    return load_preset(str(preset))


@pytest.fixture(scope="module")
def story(damaged_set: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the tool's runs, and what it printed."""
    folder = tmp_path_factory.mktemp("story") / "runs"
    options = [
        "--short",
        "--steps",
        str(STEPS),
        "--data",
        str(damaged_set),
        "--workdir",
        str(folder),
    ]
    done = subprocess.run(
        [sys.executable, str(TOOL), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def ended(
    tool: ModuleType, commands: list[list[str]], folder: Path, devices: int = 2, **more: Any
) -> list[tuple[int, str]]:
    """Trains in a process for each command; the status of each, and what it said."""
    outputs = [folder / f"said{i}.txt" for i in range(len(commands))]
    processes = tool.start_together(commands, [devices] * len(commands), outputs, **more)
    return [
        (process.wait(timeout=900), output.read_text())
        for process, output in zip(processes, outputs, strict=True)
    ]


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_end_as_said_and_go_on_to_the_same_bytes(story: tuple[Path, str]) -> None:
    folder, told = story
    starts = [line.split() for line in told.splitlines() if " + " in line]
    assert [line[6:8] for line in starts if line[0] == "killed"] == [["75", "-9"], ["0", "0"]]
    for file in ("metrics.jsonl", "split.csv", "config.json"):
        assert (folder / "killed" / file).read_bytes() == (folder / "two" / file).read_bytes()
    said = (folder / "killed.0.txt").read_text()  # of the last start
    assert "resuming" in said
    assert "resuming" not in (folder / "killed.1.txt").read_text()  # process 0 tells of all


@pytest.mark.slow
@pytest.mark.parametrize("other", ["one", "two to one"])
def test_statistics_metrics_and_counts_are_those_of_one_process(
    other: str, story: tuple[Path, str]
) -> None:
    runs = [story[0] / name for name in ("two", other)]
    states: list[Any] = [restore_run(run, "latest")[1].state for run in runs]
    # Of half a batch, statistics would be some ten percent off.
    for mine, theirs in zip(*(jax.tree.leaves(x.batch_stats) for x in states), strict=True):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(mine / scale, theirs / scale, atol=1e-3)
    dataset = open_dataset(Path(json.loads((runs[0] / "data.json").read_text())["folder"]))
    count = len(splits.read_split(runs[0] / "split.csv", dataset.records)["validation"])
    for one, two in zip(*map(lines_of, runs), strict=True):
        for name, most in (("loss", 1e-4), ("val_loss", 1e-4), ("gradient_norm", 0.05)):
            if name in one:
                assert one[name] == pytest.approx(two[name], rel=most), (one["step"], name)
        if "val_accuracy" in one:
            assert one["val_accuracy"] * count == pytest.approx(round(one["val_accuracy"] * count))
        if "bad_record" in one:
            assert one == two


@pytest.mark.slow
def test_a_record_that_one_process_skips_is_named_once(story: tuple[Path, str]) -> None:
    for name in ("two", "one", "killed"):
        found = [line for line in lines_of(story[0] / name) if "bad_record" in line]
        assert [line["step"] for line in found] == [2]


@pytest.mark.slow
def test_only_process_0_writes_beside_the_checkpoints_and_the_state_is_saved_once(
    story: tuple[Path, str],
) -> None:
    def files(run: Path) -> list[str]:
        return sorted(path.name.split(".vm")[0].split(".1")[0] for path in run.iterdir())

    def saved(run: Path) -> int:
        state = run / "checkpoints" / str(STEPS) / "default"
        return sum(path.stat().st_size for path in state.rglob("*") if path.is_file())

    one, two = story[0] / "one", story[0] / "two"
    assert files(two) == files(one)
    assert len((two / "starts.jsonl").read_text().splitlines()) == 1
    assert saved(two) < 1.5 * saved(one)  # not twice; two processes have two indices


@pytest.mark.slow
def test_each_process_reads_only_its_rows(
    tool: ModuleType,
    story: tuple[Path, str],
    damaged_set: Path,
    story_config: Config,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"  # two steps are left
    shutil.copytree(story[0] / "two", run)
    for step in range(STEPS - 1, STEPS + 1):
        shutil.rmtree(run / "checkpoints" / str(step))
    program = tmp_path / "telling.py"
    program.write_text(TELLING)
    preset = str(story[0] / "preset.py")
    command = ["train", preset, "--data", str(damaged_set), "--workdir", str(run)]
    commands = [[str(tmp_path / str(i)), *command] for i in range(2)]
    found = ended(tool, commands, tmp_path, program=[str(program)])
    assert [status for status, _ in found] == [0, 0], found
    rows = splits.read_split(run / "split.csv", open_dataset(damaged_set).records)["validation"]
    half, size = story_config.batch_size // 2, story_config.batch_size
    for i in range(2):
        told = json.loads((tmp_path / str(i)).read_text())
        steps = [step for step, _ in told["rows"]]
        assert {STEPS - 2, STEPS - 1} <= set(steps)
        assert len(steps) == len(set(steps))
        own = list(range(i * half, (i + 1) * half))
        assert all(numbers == own for _, numbers in told["rows"])
        # Two validations, each of this process's share.
        validated = sum(place % size in own for place in range(len(rows)))
        assert len(told["frames"]) <= half * len(steps) + 2 * validated + 1
    assert (run / "metrics.jsonl").read_bytes() == (story[0] / "two/metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_the_other_feed_and_mapping_with_members_an_average_phases_and_accumulated_steps(
    tool: ModuleType, damaged_set: Path, tmp_path: Path
) -> None:
    changes = ["--feed", "resident", "--mapping", "shard_map", "--accumulate", "2"]
    changes += ["--members", "2", "--member-mapping", "vmap", "--ema", "0", "--swa-start", "0.5"]
    changes += ["--head-epochs", "0.1"]  # the first step
    preset = tmp_path / "preset.py"
    preset.write_text(tool.PRESET.format(steps=3))
    command = ["train", str(preset), *changes, "--data", str(damaged_set)]
    two, four = tmp_path / "two", tmp_path / "four"
    for run, count, devices in ((two, 2, 2), (four, 1, 4)):
        found = ended(tool, [[*command, "--workdir", str(run)]] * count, tmp_path, devices)
        assert [status for status, _ in found] == [0] * count, found
    verdict, told = tool.difference(four, two)
    assert verdict == "equal to rounding", told
    assert [line for line in lines_of(two) if "bad_record" in line]


@pytest.mark.slow
def test_bad_input_of_one_process_ends_all_with_a_line(
    tool: ModuleType, damaged_set: Path, phantom_set: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "preset.py"
    preset.write_text(tool.PRESET.format(steps=2))
    command = ["train", str(preset), "--workdir", str(tmp_path / "run"), "--data"]
    commands = [[*command, str(data)] for data in (damaged_set, phantom_set)]
    found = ended(tool, commands, tmp_path)
    assert [status for status, _ in found] == [2, 2], found
    lines = [[x for x in text.splitlines() if x.startswith("thyrojax: ")] for _, text in found]
    assert [len(x) for x in lines] == [1, 1]
    assert lines[0][0].startswith("thyrojax: process 0 of 2: process 1 has ended: ")
    assert "found data with fingerprint" in lines[1][0]


@pytest.mark.slow
def test_a_process_that_nobody_meets_ends_with_a_line(tool: ModuleType, tmp_path: Path) -> None:
    meet = ["--coordinator", "127.0.0.1:1", "--num-processes", "2", "--process-id", "1"]
    command = ["train", "quickstart", "--data", str(tmp_path), "--workdir", str(tmp_path / "run")]
    ((status, said),) = ended(
        tool, [[*command, *meet, "--connect-seconds", "2"]], tmp_path, devices=1
    )
    assert status == 2
    assert said.splitlines()[-1].startswith(
        "thyrojax: 127.0.0.1:1: found no 2 processes that meet there within 2 s"
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"coordinator": "a:1"}, "--num-processes: found none"),
        (
            {"coordinator": "a", "num_processes": 2, "process_id": 0},
            "found 'a', expected HOST:PORT",
        ),
        ({"coordinator": "a:1", "num_processes": 2, "process_id": 2}, "found 2, expected 0 to 1"),
        ({"coordinator": "a:1", "num_processes": 0, "process_id": 0}, "found 0, expected at least"),
        ({"coordinator": "a:1", "detect": True}, "--distributed: found --coordinator too"),
        ({"heartbeat_seconds": 0}, "--heartbeat-seconds: found 0"),
        ({"connect_seconds": 0}, "--connect-seconds: found 0"),
    ],
)
def test_flags_that_do_not_go_together_are_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Processes(**fields)
