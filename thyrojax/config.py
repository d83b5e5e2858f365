"""Every option of a run, declared once. A run folder keeps them verbatim in config.json."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from thyrojax.errors import ConfigError

CropShape = Literal["square", "square_cover", "rectangle", "frame"]
Border = Literal["constant", "edge", "reflect", "shift"]
Pooling = Literal["valid", "padded"]
MarginUnit = Literal["px", "mm"]
Feed = Literal["stream", "resident"]

LISTED_FROM = 0.9  # similarity of two frames from which a built set lists them as near-duplicates


@dataclass(frozen=True)
class Config:
    """One training run. Lengths are in pixels unless said, times in epochs, rates per step."""

    name: str = "run"
    seed: int = 0

    # Crop and augmentation (Guan et al. 2019, "Image preparation and cropping").
    crop_shape: CropShape = "square"
    border: Border = "constant"
    margin_min: int = 0  # training draws a whole margin from margin_min..margin_max, both included
    margin_max: int = 100
    margin_eval: int = 50
    margin_unit: MarginUnit = "px"  # of the three margins; "mm" needs every nodule's pixel spacing
    input_size: int = 384  # side of the network's input
    flip: bool = True  # horizontal, with probability 1/2
    vertical_flip: bool = False  # never happens to a scanner: shadows would rise to the skin
    gain: float = 0.0  # brightness factor drawn from 1 +- gain
    contrast: float = 0.0  # contrast factor about the crop's mean, drawn from 1 +- contrast
    time_gain: float = 0.0  # brightness slope over depth: factors 1 -+ s top to bottom, |s| <= it
    rotation: float = 0.0  # degrees about the window's centre, drawn from +- rotation
    zoom: float = 0.0  # scale factor drawn from 1 +- zoom
    speckle: float = 0.0  # multiplicative noise; its standard deviation is drawn from 0..speckle
    blur: float = 0.0  # Gaussian; its standard deviation in input pixels is drawn from 0..blur
    erase: float = 0.0  # probability of a grey rectangle beside the box (Zhong et al. 2020)
    mixup: float = 0.0  # Beta(a, a) of the mixing weight (Zhang et al. 2018); 0 = off
    cutmix: float = 0.0  # Beta(a, a) of the pasted area (Yun et al. 2019); 0 = off

    # Feed.
    feed: Feed = "stream"  # resident: decoded frames live on the accelerator, which crops them
    cache_mb: int = 2048  # decoded frames that the stream keeps in RAM; 0 = none
    on_bad_record: Literal["stop", "skip"] = "stop"  # skip: named in metrics.jsonl, at most 1 %
    # Resident feed: steps that run without a word from the host. Leave 1 on a CPU, where XLA runs
    # a network in a loop many times slower.
    steps_per_dispatch: int = 1

    # Parts of the data, by patient.
    split: str = ""  # a split.csv to use; "" = draw one
    split_seed: int = -1  # what the parts are drawn from; -1 = the seed
    split_by: Literal["patient", "image"] = "patient"  # image: leaks patients, to measure how much
    train_share: float = 1.0  # share of the training patients that are used: for learning curves
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    near_duplicates: float = LISTED_FROM  # frames at least this alike are of one patient; 0 = never
    folds: int = 0  # k > 1: test = fold number `fold`, validation from the other folds
    fold: int = 0
    inner_folds: int = 0  # k > 1: validation = number `inner_fold` of k parts of what is no test
    inner_fold: int = 0

    # Model.
    weights: str = "imagenet"  # a tag of the catalog, a file, or "none"
    pooling: Pooling = "valid"
    grey: bool = True  # one input channel, first kernel folded; False = three equal channels
    aux_head: bool = False
    aux_weight: float = 0.4  # weight of the auxiliary loss (Szegedy et al. 2016 use 0.3 to 0.4)
    dropout: float = 0.2
    depth_multiplier: float = 1.0
    bn_momentum: float = 0.9  # Flax convention: share of the old running value kept
    bn_epsilon: float = 1e-3
    dtype: Literal["float32", "bfloat16"] = "float32"

    # Speed and memory alone: they change no value beyond rounding. docs/speed.md has their worth.
    pointwise: Literal["product", "convolution"] = "product"  # how 1x1 convolutions are computed
    kernel_gradient: Literal["parts", "whole"] = "parts"  # on a CPU; elsewhere XLA's own
    stem_on_depth: bool = False  # first convolution on 2x2 pixels folded into channels
    merge_branches: bool = False  # 1x1 convolutions of one input as one wide one
    fold_bn: bool = False  # scoring folds BatchNorm into the convolutions
    remat: bool = False  # training computes blocks twice, in place of keeping what is within them

    # Optimisation.
    epochs: float = 10.0
    steps: int = 0  # 0 = from epochs
    batch_size: int = 32  # over all devices
    accumulate: int = 1  # micro-batches of a step: less memory; BatchNorm's statistics are of each
    optimizer: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    lr: float = 1e-3  # peak rate of the head
    trunk_lr_scale: float = 0.1  # trunk's rate relative to the head's; 0 freezes the trunk
    layer_lr_decay: float = 1.0  # trunk's rate times this for each block below the top one
    head_epochs: float = 0.0  # at first only the heads are trained
    unfreeze_epochs: float = 0.0  # then one block more each so many, from the top; 0 = all at once
    freeze_bn: bool = False  # BatchNorm uses its running statistics in training and keeps them
    warmup_fraction: float = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 1e-4
    momentum: float = 0.9  # SGD and RMSProp
    clip_norm: float = 0.0  # the gradient's global norm is cut to this; 0 = never
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0  # of the focal loss (Lin et al. 2017); 0 = cross-entropy
    class_weights: Literal["none", "balanced"] = "none"
    ema: float = 0.0  # decay of the average of parameters and statistics (ramped up); 0 = off
    swa_start: float = 0.0  # share of the steps from which parameters are averaged evenly; 0 = off
    members: int = 1  # networks of seeds seed, seed + 1, ... trained together; their mean is scored
    member_mapping: Literal["auto", "vmap", "unroll"] = "auto"  # unroll on CPUs, elsewhere vmap
    mapping: Literal["pmap", "shard_map"] = "pmap"

    # Bookkeeping.
    eval_every: float = 1.0  # epochs between validations, each with a checkpoint
    patience: int = 0  # validations without a better AUC before the run ends; 0 = it never does
    log_every: int = 10  # steps between lines of metrics.jsonl
    log_images: int = 8  # crops that TensorBoard shows at the start and at validations; 0 = none
    keep_every: int = 0  # validations between checkpoints that are kept for good; 0 = none
    grace_seconds: float = 30.0  # after SIGTERM, to finish the step, save and leave

    def __post_init__(self) -> None:
        """Raises ConfigError naming every field of the wrong type, else every one out of range."""
        check_types({name: getattr(self, name) for name in _hints()})
        faults = [
            f"{name}: found {getattr(self, name)!r}, expected {expected}"
            for name, expected, holds in _rules(self)
            if not holds
        ]
        if faults:
            raise ConfigError("; ".join(faults))


def _rules(c: Config) -> list[tuple[str, str, bool]]:
    """(field, what is expected, whether it holds) for every field with a range."""

    def finite(x: float) -> bool:
        return math.isfinite(x)

    def fraction(x: float) -> bool:
        return 0.0 <= x < 1.0

    rules = [
        ("seed", "a whole number from 0 to 2^63 - 1", 0 <= c.seed < 2**63),
        ("margin_min", "a whole number >= 0", c.margin_min >= 0),
        (
            "margin_max",
            f"a whole number >= margin_min ({c.margin_min})",
            c.margin_max >= c.margin_min,
        ),
        ("margin_eval", "a whole number >= 0", c.margin_eval >= 0),
        ("input_size", "a whole number >= 75", c.input_size >= 75),
        ("gain", "0 <= gain < 1", fraction(c.gain)),
        ("contrast", "0 <= contrast < 1", fraction(c.contrast)),
        ("time_gain", "0 <= time_gain < 1", fraction(c.time_gain)),
        ("rotation", "0 <= rotation <= 45", 0.0 <= c.rotation <= 45.0),
        ("zoom", "0 <= zoom < 1", fraction(c.zoom)),
        ("speckle", "0 <= speckle < 1", fraction(c.speckle)),
        ("blur", "0 <= blur <= 8", 0.0 <= c.blur <= 8.0),
        ("erase", "0 <= erase <= 1", 0.0 <= c.erase <= 1.0),
        ("mixup", "a number >= 0", finite(c.mixup) and c.mixup >= 0),
        ("cutmix", "a number >= 0", finite(c.cutmix) and c.cutmix >= 0),
        ("cache_mb", "a whole number >= 0", c.cache_mb >= 0),
        ("steps_per_dispatch", "a whole number >= 1", c.steps_per_dispatch >= 1),
        (
            "steps_per_dispatch",
            "1 with the stream feed",
            c.steps_per_dispatch == 1 or c.feed == "resident",
        ),
        (
            "near_duplicates",
            f"0, or between {LISTED_FROM} (below that a set lists none) and 1",
            c.near_duplicates == 0.0 or LISTED_FROM <= c.near_duplicates <= 1.0,
        ),
        ("split_seed", "-1, or a whole number from 0 to 2^63 - 1", -1 <= c.split_seed < 2**63),
        ("train_share", "0 < train_share <= 1", 0.0 < c.train_share <= 1.0),
        (
            "train_share",
            "1 with a given split, which may call images unused",
            not c.split or c.train_share == 1.0,
        ),
        (
            "inner_folds",
            "0 with a given split, which leaves nothing to draw",
            not c.split or c.inner_folds == 0,
        ),
        ("validation_fraction", "between 0 and 1", 0.0 < c.validation_fraction < 1.0),
        ("test_fraction", "between 0 and 1", 0.0 < c.test_fraction < 1.0),
        ("folds", "0, or a whole number >= 2", c.folds == 0 or c.folds >= 2),
        ("fold", f"a whole number from 0 to {max(c.folds - 1, 0)}", 0 <= c.fold < max(c.folds, 1)),
        ("inner_folds", "0, or a whole number >= 2", c.inner_folds == 0 or c.inner_folds >= 2),
        (
            "inner_fold",
            f"a whole number from 0 to {max(c.inner_folds - 1, 0)}",
            0 <= c.inner_fold < max(c.inner_folds, 1),
        ),
        ("aux_weight", "a number >= 0", finite(c.aux_weight) and c.aux_weight >= 0),
        ("dropout", "0 <= dropout < 1", fraction(c.dropout)),
        ("depth_multiplier", "0 < depth_multiplier <= 1", 0.0 < c.depth_multiplier <= 1.0),
        ("bn_momentum", "0 <= bn_momentum < 1", fraction(c.bn_momentum)),
        ("bn_epsilon", "a number > 0", finite(c.bn_epsilon) and c.bn_epsilon > 0),
        ("epochs", "a number > 0", finite(c.epochs) and c.epochs > 0),
        ("steps", "a whole number >= 0", c.steps >= 0),
        ("batch_size", "a whole number >= 1", c.batch_size >= 1),
        ("accumulate", "a whole number >= 1", c.accumulate >= 1),
        (
            "batch_size",
            f"a multiple of accumulate ({c.accumulate})",
            c.accumulate < 1 or c.batch_size % c.accumulate == 0,
        ),
        ("lr", "a number > 0", finite(c.lr) and c.lr > 0),
        ("trunk_lr_scale", "a number >= 0", finite(c.trunk_lr_scale) and c.trunk_lr_scale >= 0),
        ("layer_lr_decay", "0 < layer_lr_decay <= 1", 0.0 < c.layer_lr_decay <= 1.0),
        ("head_epochs", "a number >= 0", finite(c.head_epochs) and c.head_epochs >= 0),
        ("unfreeze_epochs", "a number >= 0", finite(c.unfreeze_epochs) and c.unfreeze_epochs >= 0),
        ("warmup_fraction", "0 <= warmup_fraction < 1", fraction(c.warmup_fraction)),
        ("weight_decay", "a number >= 0", finite(c.weight_decay) and c.weight_decay >= 0),
        ("momentum", "0 <= momentum < 1", fraction(c.momentum)),
        ("clip_norm", "a number >= 0", finite(c.clip_norm) and c.clip_norm >= 0),
        ("label_smoothing", "0 <= label_smoothing < 1", fraction(c.label_smoothing)),
        ("focal_gamma", "a number >= 0", finite(c.focal_gamma) and c.focal_gamma >= 0),
        ("ema", "0 <= ema < 1", fraction(c.ema)),
        ("ema", "0 with swa_start, which averages too", c.ema == 0.0 or c.swa_start == 0.0),
        ("swa_start", "0 <= swa_start < 1", fraction(c.swa_start)),
        ("members", "a whole number >= 1", c.members >= 1),
        ("members", "no seed of 2^63 or more", c.seed + c.members <= 2**63),
        ("eval_every", "a number > 0", finite(c.eval_every) and c.eval_every > 0),
        ("patience", "a whole number >= 0", c.patience >= 0),
        ("log_every", "a whole number >= 1", c.log_every >= 1),
        ("log_images", "a whole number >= 0", c.log_images >= 0),
        ("keep_every", "a whole number >= 0", c.keep_every >= 0),
        ("grace_seconds", "a number > 0", finite(c.grace_seconds) and c.grace_seconds > 0),
    ]
    if c.trunk_lr_scale == 0.0:
        for name in ("head_epochs", "unfreeze_epochs"):
            rules.append((name, "0 where trunk_lr_scale is 0", getattr(c, name) == 0.0))
        rules.append(("layer_lr_decay", "1 where trunk_lr_scale is 0", c.layer_lr_decay == 1.0))
    if c.head_epochs > 0.0 and c.steps == 0:  # how long an epoch is, only the data tell
        expected = f"fewer than epochs ({c.epochs})"
        rules.append(("head_epochs", expected, c.head_epochs < c.epochs))
    fractions = c.validation_fraction + c.test_fraction
    rules.append(
        ("test_fraction", "room for training beside validation", c.folds > 0 or fractions < 1.0)
    )
    return rules


def total_steps(config: Config, n_train: int) -> int:
    """Steps of a run over `n_train` training records."""
    return config.steps or math.ceil(config.epochs * n_train / config.batch_size)


def to_json(config: Config) -> str:
    """The configuration as the text of a config.json."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(path: Path) -> Config:
    """Reads a config.json.

    Raises:
      ConfigError: not JSON, an unknown or missing field, or a value of the wrong type or range.
    """
    try:
        values: Any = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: found no readable JSON ({error}), expected a run's config"
        ) from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: found {type(values).__name__}, expected an object of fields")
    for name in values:
        if name not in _hints():
            known = ", ".join(_hints())
            raise ConfigError(f"{path}: found field {name!r}, expected one of {known}")
    try:
        return Config(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def check_types(values: Mapping[str, Any]) -> None:
    """Refuses values that are not of their fields' types, before a `Config` is made of them.

    Raises:
      ConfigError: names every such field, what was found and what is expected.
    """
    faults = [_type_fault(name, value, _hints()[name]) for name, value in values.items()]
    if told := "; ".join(filter(None, faults)):
        raise ConfigError(told)


@functools.cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Config)


def _type_fault(name: str, value: Any, hint: Any) -> str | None:
    """What is wrong with a value; a whole number is a number, too."""
    if get_origin(hint) is Literal:
        allowed = get_args(hint)
        fits, expected = value in allowed, f"one of {', '.join(allowed)}"
    else:
        kinds = (int, float) if hint is float else (hint,)
        fits = isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))
        expected = hint.__name__
    return None if fits else f"{name}: found {value!r}, expected {expected}"
