"""Answers to checklist items on the network, its training and its software."""

from __future__ import annotations

from thyrojax.report.checklist_data import part_numbers, preprocessing
from thyrojax.report.facts import Facts
from thyrojax.report.markup import plural
from thyrojax.report.wording import plain, sentence

_OPTIMIZERS = {"adamw": "AdamW", "sgd": "SGD with Nesterov momentum", "rmsprop": "RMSProp"}


def architecture(facts: Facts) -> str | None:
    """The network, from the configuration."""
    values = facts.settings(
        "input_size", "grey", "aux_head", "dropout", "depth_multiplier", "pooling", "bn_epsilon"
    )
    if values is None:
        return None
    size, grey, aux_head, dropout, width, pooling, epsilon = values
    input_kind = "one grey channel" if grey else "the grey image in three equal channels"
    count = "" if facts.parameters is None else f", {facts.parameters:,} trainable parameters"
    narrowed = "" if width == 1 else f" with {width} times its widths"
    head = "with" if aux_head else "without"
    padding = "count the zero padding" if pooling == "padded" else "count real pixels only"
    return (
        f"Inception-v3 (Szegedy et al. 2016){narrowed}: input {size} x {size} px, {input_kind}; "
        f"average pools {padding}; BatchNorm epsilon {epsilon}; mean over the last grid, dropout "
        f"{dropout}, a dense layer with two outputs and softmax; {head} auxiliary head{count}."
    )


def initial_weights(facts: Facts) -> str | None:
    """What training began with, from weights.json."""
    weights = facts.weights
    if weights is None:
        return None
    note = sentence(str(weights["note"])) if weights.get("note") else ""
    name = weights.get("tag") or _file_name(weights.get("source"))
    if not name:
        return f"Random weights. {note}".strip()
    digest = f", sha256 {weights['sha256']}" if weights.get("sha256") else ""
    licence = f" Licence: {weights['licence']}." if weights.get("licence") else ""
    return f"{sentence(f'Weights “{name}”{digest}')}{licence} {note}".strip()


def training(facts: Facts) -> str | None:
    """Recipe and augmentation, from the configuration."""
    values = facts.settings("optimizer", "lr", "schedule", "batch_size", "seed")
    length = _length(facts)
    if values is None or length is None:
        return None
    optimizer, rate, schedule, batch, seed = values
    parts = [
        f"{_OPTIMIZERS.get(optimizer, optimizer)}, peak rate {plain(rate)} for the head",
        _setting(facts, "trunk_lr_scale", "times {} for the trunk (0 freezes it)"),
        _setting(facts, "layer_lr_decay", "times {} for each block below the top one", skip=1.0),
        _setting(facts, "head_epochs", "the head alone for the first {} epochs", skip=0.0),
        _setting(
            facts, "unfreeze_epochs", "then one block more each {} epochs, from the top", skip=0.0
        ),
        f"{schedule} schedule",
        _setting(facts, "warmup_fraction", "warm-up over a share of {} of the steps"),
        length,
        _setting(facts, "patience", "ended after {} validations without a better AUC", skip=0),
        f"batches of {batch}",
        _setting(facts, "accumulate", "in {} micro-batches", skip=1),
        _setting(facts, "weight_decay", "weight decay {}"),
        _setting(facts, "dropout", "dropout {}"),
        _setting(facts, "label_smoothing", "label smoothing {}"),
        _setting(facts, "focal_gamma", "focal loss with gamma {}", skip=0.0),
        _setting(facts, "clip_norm", "the gradient's norm cut to {}", skip=0.0),
        _setting(facts, "class_weights", "class weights: {}"),
        "BatchNorm statistics frozen" if (facts.config or {}).get("freeze_bn") else "",
        _setting(facts, "ema", "average of the weights with decay {}", skip=0),
        _setting(facts, "swa_start", "even average of the weights from {} of the steps on", skip=0),
        f"seed {seed}",
    ]
    return f"{', '.join(part for part in parts if part)}. {augmentation(facts) or ''}".strip()


_OTHERS = {
    "vertical_flip": "a vertical flip with probability 1/2",
    "time_gain": "a brightness slope over depth within ± {}",
    "rotation": "a rotation within ± {} degrees",
    "zoom": "a scale factor within 1 ± {}",
    "speckle": "multiplicative speckle noise of standard deviation up to {}",
    "blur": "a Gaussian blur of standard deviation up to {} px",
    "erase": "a grey rectangle beside the box with probability {}",
    "mixup": "mixup (Beta distribution, parameter {})",
    "cutmix": "CutMix (Beta distribution, parameter {})",
}


def augmentation(facts: Facts) -> str | None:
    """What is drawn anew for each image and epoch."""
    values = facts.settings("margin_min", "margin_max", "flip", "gain", "contrast")
    if values is None:
        return None
    low, high, flip, gain, contrast = values
    config = facts.config or {}
    margin = f"a margin of {low} to {high} {config.get('margin_unit', 'px')}"
    drawn = [] if facts.whole_frame else [margin]
    drawn += ["a horizontal flip with probability 1/2"] if flip else []
    drawn += [f"a brightness factor within 1 ± {plain(gain)}"] if gain else []
    drawn += [f"a contrast factor within 1 ± {plain(contrast)}"] if contrast else []
    drawn += [
        text.format(plain(config[name])) for name, text in _OTHERS.items() if config.get(name)
    ]
    return f"Drawn anew for each image and epoch: {', '.join(drawn) or 'nothing'}."


def class_imbalance(facts: Facts) -> str | None:
    """Class weights of the loss."""
    values = facts.settings("class_weights")
    if values is None:
        return None
    if values[0] == "none":
        return "No class weights: both classes weigh alike in the loss."
    return f"The loss weighs the classes: {values[0]}."


def model_selection(facts: Facts) -> str | None:
    """The checkpoint that was evaluated, and whether it is the best of validation."""
    step = facts.count("step")
    lines = {line.get("step"): line for line in facts.validations}
    chosen = lines.get(step, {}).get("val_auc")
    aucs = [line["val_auc"] for line in lines.values() if isinstance(line.get("val_auc"), float)]
    if step is None or not isinstance(chosen, float) or not aucs:
        return None
    number = f"of {plural(len(lines), 'validation')}"
    if chosen == max(aucs):
        return f"Checkpoint with the largest validation AUC ({chosen:.3f}, step {step}) {number}."
    return (
        f"Checkpoint of step {step}, validation AUC {chosen:.3f}; the largest {number} is "
        f"{max(aucs):.3f}."
    )


def ensemble(facts: Facts) -> str | None:
    """How many networks a run's score is of."""
    if facts.config is None:
        return None
    members = facts.config.get("members", 1)
    if members == 1:
        return "No ensemble: one network, one window for each score."
    return f"The mean score of {members} networks, of as many seeds, on one window for each score."


def software(facts: Facts) -> str | None:
    """Packages with versions, and the devices of training."""
    if not facts.versions:
        return None
    versions = dict(facts.versions)
    devices = versions.pop("devices", None)
    told = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return f"{told}." + (f" Trained on {devices}." if devices else "")


def development(facts: Facts) -> str | None:
    """Model, weights, training and sizes together."""
    told = [answer(facts) for answer in (initial_weights, training, model_selection, part_numbers)]
    if told[1] is None or told[3] is None:
        return None
    return " ".join(answer for answer in told if answer)


def index_test(facts: Facts) -> str | None:
    """Input and network together."""
    told = [preprocessing(facts), architecture(facts)]
    return None if None in told else " ".join(answer for answer in told if answer)


def index_blinding(facts: Facts) -> str | None:
    """What the network is given."""
    if facts.config is None:
        return None
    return (
        "The network is given the pixels of the window and nothing else: neither clinical "
        "information nor the reference standard."
    )


def interaction(facts: Facts) -> str | None:
    """What a user must do."""
    if facts.config is None:
        return None
    return f"The user gives an image and draws a box around the {facts.unit}."


def _length(facts: Facts) -> str | None:
    values = facts.settings("epochs", "steps")
    if values is None:
        return None
    epochs, steps = values
    return f"{plain(steps)} steps" if steps else f"{plain(epochs)} epochs"


def _setting(facts: Facts, name: str, text: str, skip: object = None) -> str:
    value = (facts.config or {}).get(name)
    return "" if value is None or value == skip else text.format(plain(value))


def _file_name(path: object) -> str:
    """A file without its folders, which are the author's own."""
    return str(path).replace("\\", "/").rpartition("/")[2] if path else ""
