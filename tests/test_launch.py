"""The launchers, run with stand-ins for the cluster; what they start is read by the real parser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from thyrojax.cli import _parser
from thyrojax.config import Config
from thyrojax.presets import load_preset, override

LAUNCH = Path(__file__).parents[1] / "tools" / "launch"
FILES = ("one_machine.sh", "slurm.sh", "jobset_gpus.sh", "jobset_tpus.sh")

# Tells how it was called, and ends with the next of the statuses that it was given.
THYROJAX = r"""
printf '%s\0' "devices=${CUDA_VISIBLE_DEVICES-}" "cache=$JAX_COMPILATION_CACHE_DIR" "$@" \
  > "$TOLD/$(date +%s%N).$BASHPID"
if [ -n "${HANG-}" ]; then
  trap 'exit 143' TERM
  for i in $(seq 100); do sleep 0.1; done
fi
status=$(sed -n 1p "$TOLD.statuses")
sed -i 1d "$TOLD.statuses"
exit "${status:-0}"
"""
SRUN = 'while [[ "$1" == --* ]]; do shift; done; "$@"'
STAND_INS = {
    "thyrojax": THYROJAX,
    "srun": SRUN,
    "rsync": "exit 0",
    "scontrol": 'echo "$@" >> "$TOLD.scontrol"',
    "kubectl": 'echo "$@" > "$TOLD.kubectl"; cat > "$TOLD.yaml"',
}


class Machine:
    """A folder with stand-ins on the path, and what was called."""

    def __init__(self, folder: Path) -> None:
        self.told, programs = folder / "told", folder / "bin"
        for made in (self.told, programs):
            made.mkdir()
        for name, script in STAND_INS.items():
            (programs / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
            (programs / name).chmod(0o755)
        # Outside the script's own names; the cache's folder is the script's to choose.
        path = f"{programs}:{os.environ['PATH']}"
        self.environment = {"PATH": path, "TOLD": str(self.told), "RESTART_SECONDS": "0"}

    def run(
        self, script: str | Path, *arguments: str, statuses: tuple[int, ...] = (), **more: str
    ) -> subprocess.CompletedProcess[str]:
        (self.told.parent / "told.statuses").write_text("".join(f"{one}\n" for one in statuses))
        return subprocess.run(
            ["bash", *([str(script)] if isinstance(script, Path) else ["-c", script]), *arguments],
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[list[str]]:
        """Devices, cache and arguments of each call, in order."""
        return [path.read_text().split("\0")[:-1] for path in sorted(self.told.iterdir())]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def _parsed(call: list[str]) -> tuple[Any, Config]:
    """The arguments and the configuration, read as the command reads them."""
    args, rest = _parser().parse_known_args(call[2:])
    return args, override(load_preset(args.preset), rest, "thyrojax train")


@pytest.mark.parametrize("name", FILES)
def test_a_launcher_is_edited_in_two_places(name: str) -> None:
    text = (LAUNCH / name).read_text()

    assert re.findall(r"---- (EDIT \d of 2|Nothing to edit)", text) == [
        "EDIT 1 of 2",
        "EDIT 2 of 2",
        "Nothing to edit",
    ]
    assert subprocess.run(["bash", "-n", LAUNCH / name], check=False).returncode == 0


def test_one_machine_starts_one_process_for_all_devices(machine: Machine) -> None:
    done = machine.run(LAUNCH / "one_machine.sh")

    assert done.returncode == 0, done.stderr
    (call,) = machine.calls()
    assert call[:2] == ["devices=", "cache=/runs/nodules.xla"]
    args, config = _parsed(call)
    assert (str(args.data), str(args.workdir)) == ("/data/nodules", "/runs/nodules")
    assert args.coordinator is None
    assert config.batch_size % 8 == 0


def test_one_machine_starts_a_process_for_each_device(machine: Machine, tmp_path: Path) -> None:
    done = machine.run(_edited(tmp_path, "one_machine.sh", "processes=1", "processes=8"))

    assert done.returncode == 0, done.stderr
    calls = machine.calls()
    found = sorted((_parsed(call)[0].process_id, call[0]) for call in calls)
    assert found == [(i, f"devices={i}") for i in range(8)]
    for call in calls:
        args, _ = _parsed(call)
        assert (args.coordinator, args.num_processes) == ("127.0.0.1:55527", 8)


@pytest.mark.parametrize(("statuses", "last", "starts"), [((75, 137), 0, 3), ((2,), 2, 1)])
def test_one_machine_starts_again_where_that_can_help(
    statuses: tuple[int, ...], last: int, starts: int, machine: Machine
) -> None:
    done = machine.run(LAUNCH / "one_machine.sh", statuses=statuses)

    assert done.returncode == last
    assert len(machine.calls()) == starts


@pytest.mark.parametrize("processes", ["1", "8"])
def test_sigterm_to_one_machine_reaches_its_processes(
    processes: str, machine: Machine, tmp_path: Path
) -> None:
    script = _edited(tmp_path, "one_machine.sh", "processes=1", f"processes={processes}")
    running = subprocess.Popen(["bash", script], env={**machine.environment, "HANG": "yes"})
    deadline = time.monotonic() + 20
    while len(machine.calls()) < int(processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)

    assert running.wait(timeout=20) == 143
    assert len(machine.calls()) == int(processes)


def _edited(folder: Path, name: str, old: str, new: str) -> Path:
    text = (LAUNCH / name).read_text()
    assert text.count(old) == 1
    (folder / name).write_text(text.replace(old, new))
    return folder / name


@pytest.mark.parametrize(
    ("status", "restarts", "queued"),
    [(0, "0", False), (143, "0", True), (75, "3", True), (2, "0", False), (143, "100", False)],
)
def test_slurm_queues_a_stopped_run_again(
    status: int, restarts: str, queued: bool, machine: Machine, tmp_path: Path
) -> None:
    done = machine.run(
        LAUNCH / "slurm.sh",
        statuses=(status,),
        SLURM_JOB_NUM_NODES="2",
        SLURM_JOB_ID="17",
        SLURM_RESTART_COUNT=restarts,
        SLURM_TMPDIR=str(tmp_path),
    )

    assert done.returncode == status, done.stderr
    asked = tmp_path / "told.scontrol"
    assert (asked.read_text() if asked.exists() else "") == ("requeue 17\n" if queued else "")
    (call,) = machine.calls()
    args, config = _parsed(call)
    assert args.distributed
    assert str(args.data) == f"{tmp_path}/thyrojax-data"
    assert config.batch_size % 16 == 0
    assert config.grace_seconds < 120  # what --signal leaves


def test_slurm_reads_its_options_before_the_first_command() -> None:
    lines = (LAUNCH / "slurm.sh").read_text().splitlines()
    commands = [i for i, line in enumerate(lines) if line and not line.startswith("#")]
    options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]

    assert max(options) < min(commands)
    # JAX takes GPU i for local process i: all have to see all.
    assert not any("gpus-per-task" in lines[i] for i in options)
    asked = [lines[i].removeprefix("#SBATCH ") for i in options]
    assert {"--gres=gpu:8", "--ntasks-per-node=8", "--signal=TERM@120", "--requeue"} <= {*asked}


@pytest.mark.parametrize(
    ("name", "resource", "pods"),
    [("jobset_gpus.sh", "nvidia.com/gpu", 8), ("jobset_tpus.sh", "google.com/tpu", 16)],
)
def test_a_jobset_starts_one_process_in_each_pod(
    name: str, resource: str, pods: int, machine: Machine, tmp_path: Path
) -> None:
    done = machine.run(LAUNCH / name, "--dry-run=server")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "told.kubectl").read_text() == "apply --dry-run=server -f -\n"
    jobset = yaml.safe_load((tmp_path / "told.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    assert (job["parallelism"], job["completions"], job["completionMode"]) == (
        pods,
        pods,
        "Indexed",
    )
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    chips = container["resources"]["limits"][resource]

    for index in ("0", "5"):
        cache = {one["name"]: one["value"] for one in container["env"]}
        script = container["command"][2]
        machine.run(script, JOB_COMPLETION_INDEX=index, **cache)
    for index, call in enumerate(machine.calls()):
        args, config = _parsed(call)
        assert call[1] == "cache=/shared/runs/nodules.xla"
        assert config.batch_size % (pods * chips) == 0
        assert 0 < config.grace_seconds < pod["terminationGracePeriodSeconds"]
        assert args.connect_seconds > 600  # nodes may have to be made first
        if args.distributed:
            continue
        assert args.coordinator == "thyrojax-workers-0-0.thyrojax:55527"
        assert (args.num_processes, args.process_id) == (pods, index * 5)
    assert len(machine.calls()) == 2

    # Paths of the command are of mounted volumes, and every volume is there.
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert {"/shared", "/local"} <= {*mounted}
    assert {*mounted.values()} == {volume["name"] for volume in pod["volumes"]}
    assert pod["initContainers"][0]["command"] == [
        "cp",
        "-r",
        "/shared/data/nodules",
        "/local/data",
    ]


@pytest.mark.parametrize("name", ["jobset_gpus.sh", "jobset_tpus.sh"])
def test_a_jobset_starts_all_again_but_after_faults(
    name: str, machine: Machine, tmp_path: Path
) -> None:
    machine.run(LAUNCH / name)
    jobset = yaml.safe_load((tmp_path / "told.yaml").read_text())
    policy = jobset["spec"]["failurePolicy"]
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]

    assert policy["maxRestarts"] > 0
    assert [(rule["action"], rule["onJobFailureReasons"]) for rule in policy["rules"]] == [
        ("FailJobSet", ["PodFailurePolicy"])
    ]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"] == {"containerName": "train", "operator": "In", "values": [1, 2]}
    assert job["backoffLimit"] == 0  # one pod gone: all are started again
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # what a podFailurePolicy needs
