"""BatchNorm folded into the convolutions, for inference."""

from __future__ import annotations

from typing import Any

import jax

from thyrojax.shapes import PyTree


def fold_batch_norm(variables: dict[str, PyTree], epsilon: float) -> dict[str, PyTree]:
    """Variables of the same network with running statistics, for `InceptionV3(folded=True)`.

    BatchNorm with running statistics is a scale and an offset for each channel, so that
    gamma * (k * x - mean) / sqrt(var + epsilon) + beta is one convolution with a bias. Equal to
    rounding; done in the parameters' own precision. May be called under jit.

    Args:
      variables: {"params", "batch_stats"}.
      epsilon: the network's `bn_epsilon`.

    Returns:
      {"params"}, where each unit's "conv" has a "kernel" and a "bias" and there is no "bn".
    """
    return {"params": _fold(variables["params"], variables["batch_stats"], epsilon)}


def _fold(params: Any, statistics: Any, epsilon: float) -> Any:
    if not isinstance(params, dict):
        return params
    if "bn" not in params:
        return {
            name: _fold(value, statistics.get(name, {}), epsilon) for name, value in params.items()
        }
    norm, running = params["bn"], statistics["bn"]
    scale = norm["scale"] * jax.lax.rsqrt(running["var"] + epsilon)
    return {
        "conv": {
            "kernel": params["conv"]["kernel"] * scale.reshape(1, 1, 1, -1),
            "bias": norm["bias"] - running["mean"] * scale,
        }
    }
