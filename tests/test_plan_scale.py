from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "plan_scale.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plan_scale", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plan_scale"] = module  # where dataclasses look for a class's module
    spec.loader.exec_module(module)
    return module


def test_a_run_of_round_numbers_is_as_worked_by_hand(tool: ModuleType) -> None:
    inputs = tool.Inputs(
        images=60_000,
        validation_images=16_000,
        epochs=10.0,
        chips=4,
        chips_per_host=2,
        chip_batch=10,
        size=100,
        gmac=5.0,
        peak_tflops=100.0,
        peak_share=0.5,
        memory_gb=10.0,
        link_gb=10.0,
        latency_us=50.0,
        frame_width=1000,
        frame_height=500,
        stored_bytes_per_pixel=0.2,
        stream_rate=500.0,
        disk_gb=0.5,
        save_s=0.5,
    )
    step = tool.Step(
        parameters=40_000_000,
        statistics=80_000,
        state=160_000_000,
        layers=20,
        chain=10,
        reduces=62,
        small_reduces=42,
        small_bytes=160_008,
    )
    found = tool.plan(inputs, step)

    # Forward: 10 images of 10 GFLOP at 50 TFLOP/s are 2 ms, the whole step three times that.
    assert found["compute_ms"] == pytest.approx(6.0)
    assert found["gradient_wire_mb"] == pytest.approx(60.0)  # 40 MB times 2 * 3 / 4
    assert found["gradient_ms"] == pytest.approx(6.0)  # at 10 GB/s
    assert found["small_ms"] == pytest.approx(2.1)  # 42 of 50 us
    assert found["small_least_ms"] == pytest.approx(1.0)  # 10 layers, forward and back
    assert found["step_ms"] == pytest.approx(14.1)
    assert found["share"] == pytest.approx(6.0 / 14.1)
    assert found["images_per_second"] == pytest.approx(40 / 0.0141)
    assert found["validation_s"] == pytest.approx(0.8)  # 400 batches of 2 ms
    assert found["epoch_s"] == pytest.approx(1500 * 0.0141 + 0.8 + 0.5)
    assert found["run_minutes"] == pytest.approx(10 * found["epoch_s"] / 60)
    assert found["steps"] == pytest.approx(15_000)
    assert found["stored_gb"] == pytest.approx(7.6)  # 76,000 of 100 kB
    assert found["cores_per_chip"] == pytest.approx(40 / 0.0141 / 4 / 500)
    assert found["cores_per_host"] == pytest.approx(2 * found["cores_per_chip"])
    assert found["resident_chip_gb"] == pytest.approx(9.5)  # 38 GB over 4
    assert found["resident_share"] == pytest.approx(0.95)
    assert found["exchange_gb"] == pytest.approx(0.0012)  # 10 crops of 40 kB to each of three
    assert found["exchange_ms"] == pytest.approx(0.12)  # at 10 GB/s
    assert found["checkpoint_s"] == pytest.approx(0.32)


def test_one_chip_exchanges_nothing(tool: ModuleType) -> None:
    step = tool.Step(40, 8, 160, 2, 2, 6, 6, 20)
    found = tool.plan(dataclasses.replace(tool.Inputs(), chips=1, chips_per_host=1), step)

    assert found["gradient_ms"] == found["small_ms"] == found["exchange_ms"] == 0.0
    assert found["share"] == 1.0


def test_all_reduces_are_read_from_a_lowered_program(tool: ModuleType) -> None:
    program = """
      %1 = "stablehlo.all_reduce"(%0) <{use_global_device_ids}> ({
      ^bb0(%a: tensor<f32>, %b: tensor<f32>):
        stablehlo.return %c : tensor<f32>
      }) : (tensor<2x32xf32>) -> tensor<2x32xf32>
      %2 = "stablehlo.all_reduce"(%1) <{use_global_device_ids}> ({
        stablehlo.return %c : tensor<f32>
      }) : (tensor<f32>) -> tensor<f32>
    """

    assert tool.reduced_shapes(program) == [[2, 32], []]


def test_the_document_has_what_the_tool_prints(tool: ModuleType) -> None:
    """In a process of its own: the step is lowered for two devices, and ranks may differ."""
    done = subprocess.run(
        [sys.executable, TOOL],
        env={"PATH": "", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    # 94 layers sum means and squares forward and two terms back; loss and accuracy.
    assert "190 all-reduces of 275 kB" in done.stdout
    assert "87.2 MB" in done.stdout  # 21.8 million parameters, as Keras counts them without a head
    assert done.stdout in (ROOT / "docs" / "scale.md").read_text()
