"""Keras' side: run by a Python that has keras and JAX, knows nothing of thyrojax.

    python keras_side.py FOLDER

FOLDER/jobs.json lists files to load: `name`, `file`, `images` (a key of images.npz), and `classes`
where it is weights for `keras.applications` (0: without a head), absent where it is a whole model.
Then Keras saves networks of its own: random.* of `keras.applications` with seven classes, and, from
narrow.keras, narrow.* and nested.*, which have it in another model with a head, compiled. All
answers are in answers_keras.npz: `NAME/pool`, `NAME/logits`.
"""

import json
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np

SAVED = {".keras": "save", ".h5": "save", ".weights.h5": "save_weights"}


def application(classes, size, weights=None):
    more = {"pooling": "avg"} if not classes else {"classes": classes}
    return keras.applications.InceptionV3(
        weights=weights,
        include_top=bool(classes),
        input_shape=(size, size, 3),
        classifier_activation=None,
        **more,
    )


def answer(model, images):
    inputs = images.astype(np.float32) / np.float32(127.5) - 1
    has_head = isinstance(model.layers[-1], keras.layers.Dense)
    outputs = {"pool": model.layers[-2 if has_head else -1].output}
    if has_head:
        model.layers[-1].activation = keras.activations.linear
        outputs["logits"] = model.output
    run = keras.Model(model.input, outputs)
    with jax.default_matmul_precision("highest"):
        return {name: np.asarray(value) for name, value in run(inputs, training=False).items()}


def save(model, folder, name):
    for ending, method in SAVED.items():
        getattr(model, method)(folder / f"{name}{ending}")


def main(folder):
    answers = {}
    with np.load(folder / "images.npz") as file:
        images = dict(file)
    for job in json.loads((folder / "jobs.json").read_text()):
        given = images[job["images"]]
        path = str(folder / job["file"])
        if "classes" in job:
            model = application(job["classes"], given.shape[1], path)
        else:
            model = keras.saving.load_model(path)
        answers |= {f"{job['name']}/{k}": v for k, v in answer(model, given).items()}

    keras.utils.set_random_seed(3)
    model = application(7, images["other"].shape[1])
    rng = np.random.default_rng(0)
    model.set_weights(
        [w if w.ndim > 1 else rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()]
    )
    save(model, folder, "random")
    answers |= {f"random/{k}": v for k, v in answer(model, images["other"]).items()}

    base = keras.saving.load_model(folder / "narrow.keras")
    save(base, folder, "narrow")
    trunk = keras.Model(base.input, base.get_layer("avg_pool").output)
    pixels = keras.Input((75, 75, 3))
    features = trunk(keras.layers.Rescaling(1 / 127.5, -1)(pixels))
    for name in ("nested", "foreign"):
        head = keras.layers.Dropout(0.5)(features)
        if name == "foreign":
            head = keras.layers.BatchNormalization()(keras.layers.Dense(8, "relu")(head))
        nested = keras.Model(pixels, keras.layers.Dense(2, "softmax")(head))
        nested.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        nested.optimizer.build(nested.trainable_variables)
        save(nested, folder, name)
    np.savez(folder / "answers_keras.npz", **answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
