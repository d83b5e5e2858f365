"""The peer's side of `tools/bench_train.py`: torchvision's Inception-v3 as its users train it.

Channels last, autocast for bfloat16, TF32 for float32, fused AdamW, `torch.compile`; without the
auxiliary head, as ours. Needs torch and torchvision.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from turns import host_peak_bytes, serve

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make_network() -> torch.nn.Module:
    """torchvision's network with two classes, its kernels random."""
    try:
        from torchvision.models import inception_v3
    except RuntimeError:
        # Without torchvision's compiled operators (none is used here) their names must exist.
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}() -> ()")
        from torchvision.models import inception_v3
    network = inception_v3(weights=None, aux_logits=False, init_weights=False, num_classes=2)
    return network.to(DEVICE, memory_format=torch.channels_last)


def prepare(compile_mode: str, case: dict[str, Any]) -> Callable[[int], None]:
    """A function that takes so many steps of the case and waits for them."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    network = make_network()
    size, batch = case["size"], case["batch"]
    images = torch.randint(0, 256, (batch, 1, size, size), dtype=torch.uint8, device=DEVICE)
    labels = torch.arange(batch, device=DEVICE) % 2
    autocast = torch.autocast(DEVICE, torch.bfloat16, enabled=case["dtype"] == "bfloat16")

    def forward(images: torch.Tensor) -> torch.Tensor:
        inputs = (images.float() / 127.5 - 1.0).expand(-1, 3, -1, -1)
        with autocast:
            return network(inputs.contiguous(memory_format=torch.channels_last))

    def loss_of(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(forward(images).float(), labels)

    def wait() -> None:
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        if compile_mode == "none":
            return function
        return torch.compile(function, mode=compile_mode)

    if case["mode"] == "infer":
        network.eval()
        score = compiled(lambda images: forward(images).float().softmax(-1)[:, 1])

        @torch.inference_mode()
        def infer(steps: int) -> None:
            for _ in range(steps):
                score(images)
            wait()

        return infer

    network.train()
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)
    loss = compiled(loss_of)

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss(images).backward()
            optimizer.step()
        wait()

    return train


def main() -> None:
    """Serves the case of the last argument, compiled in the mode of the one before."""
    compile_mode, case = sys.argv[1], json.loads(sys.argv[2])
    serve(
        prepare(compile_mode, case),
        case["seconds"],
        torch.cuda.max_memory_allocated if DEVICE == "cuda" else host_peak_bytes,
    )


if __name__ == "__main__":
    main()
