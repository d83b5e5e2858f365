"""PyTorch's side: run by a Python that has torch, knows nothing of thyrojax.

    python torch_side.py FOLDER

FOLDER/jobs.json lists networks: `name`, `make` (torchvision, timm or fid), `classes`, `aux`,
`images` (a key of images.npz: uint8 [n, height, width, 3]), `preprocessing`, and `load` (a file
that load_state_dict must take with strict=True) or `save` (a file to be made from random weights,
as `how`: zip, legacy, parallel, wrapped, script, safetensors). Answers go to answers_torch.npz.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

try:
    import torchvision
except RuntimeError:
    # A torchvision built for another torch: its operators are missing. They are not needed here,
    # its Python code only asks that they exist.
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(operator + "() -> ()")
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    import torchvision

import timm
from pytorch_fid import inception as fid
from safetensors.torch import load_file, save_file

tv = torchvision.models.inception
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class FidNetwork(torch.nn.Module):
    """What pytorch_fid.inception.fid_inception_v3 builds, without its download."""

    def __new__(cls, classes):
        network = tv.inception_v3(
            weights=None, num_classes=classes, aux_logits=False, init_weights=False
        )
        network.Mixed_5b = fid.FIDInceptionA(192, pool_features=32)
        network.Mixed_5c = fid.FIDInceptionA(256, pool_features=64)
        network.Mixed_5d = fid.FIDInceptionA(288, pool_features=64)
        network.Mixed_6b = fid.FIDInceptionC(768, channels_7x7=128)
        network.Mixed_6c = fid.FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6d = fid.FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6e = fid.FIDInceptionC(768, channels_7x7=192)
        network.Mixed_7b = fid.FIDInceptionE_1(1280)
        network.Mixed_7c = fid.FIDInceptionE_2(2048)
        return network


def make(job):
    classes = job["classes"]
    if job["make"] == "timm":
        network = timm.create_model(
            "inception_v3", pretrained=False, num_classes=classes, aux_logits=job["aux"]
        )
    elif job["make"] == "fid":
        network = FidNetwork(classes or 1)
    else:
        network = tv.inception_v3(
            weights=None,
            num_classes=classes or 1,
            aux_logits=job["aux"],
            init_weights=False,
            transform_input=False,
        )
    if not classes and job["make"] != "timm":
        network.fc = torch.nn.Identity()
    return network.eval()


def randomise(network):
    """He normal kernels and uneven statistics, so that a mistake in any of them shows."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, torch.nn.BatchNorm2d):
            for array, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
            ):
                torch.nn.init.uniform_(array, low, high)


def save(network, job, path):
    how, state = job["how"], network.state_dict()
    if how == "script":
        torch.jit.script(network).save(str(path))
    elif how == "safetensors":
        save_file(state, path, metadata={"format": "pt"})
    elif how == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif how == "parallel":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    elif how == "wrapped":
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9)
        sum(parameter.sum() for parameter in network.parameters()).backward()
        optimizer.step()
        wrapped = {"epoch": 3, "state_dict": network.state_dict()}
        torch.save({**wrapped, "optimizer": optimizer.state_dict(), "arch": "inception_v3"}, path)
    else:
        torch.save(state, path)


def load(network, path):
    if path.suffix == ".safetensors":
        state = load_file(path)
    else:
        state = torch.load(path, weights_only=True)
    network.load_state_dict(state, strict=True)


def main(folder):
    images = np.load(folder / "images.npz")
    answers = {}
    for job in json.loads((folder / "jobs.json").read_text()):
        network = make(job)
        if "load" in job:
            load(network, Path(job["load"]))
        else:
            randomise(network)
            save(network, job, folder / job["save"])
        if job["make"] == "timm":
            network.aux_logits = False  # else computed in evaluation too, at 299 px only
        x = images[job["images"]].astype(np.float64)
        x = (x / 255 - MEAN) / DEVIATION if job["preprocessing"] == "imagenet" else x / 127.5 - 1
        pooled = []
        (network.global_pool if job["make"] == "timm" else network.avgpool).register_forward_hook(
            lambda module, inputs, output, pooled=pooled: pooled.append(output.flatten(1))
        )
        with torch.no_grad():
            logits = network(torch.from_numpy(x.astype(np.float32).transpose(0, 3, 1, 2).copy()))
        answers[f"{job['name']}/pool"] = pooled[0].numpy()
        if job["classes"]:
            answers[f"{job['name']}/logits"] = logits.numpy()
    np.savez(folder / "answers_torch.npz", **answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
