"""TensorFlow's side: run by a Python that has tensorflow and tf_slim, knows nothing of thyrojax.

    python tf_side.py FOLDER

Fills tf_slim's own graph of Inception-v3 (1001 classes, auxiliary head) with FOLDER/units.npz: per
unit of the trunk in creation order `kernel_I`, `beta_I`, `mean_I`, `variance_I`, and `head_kernel`
and `head_bias`; what is not given stays random. Lets TensorFlow save it as slim.ckpt (version 2),
slim_v1.ckpt and slim.pb, frozen, and answers for FOLDER/images.npz (`whole`, `other`) in
answers_tf.npz: `whole/pool`, `whole/logits`, `whole/probabilities` and so on.
"""

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tf_slim as slim
from tf_keras.src import legacy_tf_layers
from tf_keras.src.legacy_tf_layers import normalization
from tf_slim.nets import inception_v3

# TensorFlow 2.21 looks for these where tf_keras no longer has them.
sys.modules["tf_keras.legacy_tf_layers"] = legacy_tf_layers
sys.modules["tf_keras.legacy_tf_layers.normalization"] = normalization

tf1 = tf.compat.v1
tf1.disable_eager_execution()


def build(images, aux):
    with slim.arg_scope(inception_v3.inception_v3_arg_scope()):
        logits, ends = inception_v3.inception_v3(
            images, num_classes=1001, is_training=False, create_aux_logits=aux
        )
    return {
        "logits": logits,
        "probabilities": tf.identity(ends["Predictions"], "probabilities"),
        "pool": tf.reduce_mean(ends["Mixed_7c"], [1, 2]),
    }


def assignments(given):
    """Variable -> value. Slim makes a unit's kernel, beta, mean and variance in that order."""
    kinds = {
        "weights": "kernel",
        "BatchNorm/beta": "beta",
        "BatchNorm/moving_mean": "mean",
        "BatchNorm/moving_variance": "variance",
    }
    rng = np.random.default_rng(7)
    counts = dict.fromkeys(kinds, 0)
    values = {}
    for variable in tf1.global_variables():
        name = variable.op.name
        shape = variable.shape.as_list()
        kind = next((kind for kind in kinds if name.endswith("/" + kind)), None)
        if name.startswith("InceptionV3/Logits/"):
            kind = "head_kernel" if name.endswith("weights") else "head_bias"
            values[variable] = given[kind].reshape(shape)
        elif "/AuxLogits/" in name or kind is None:
            low, high = (0.5, 1.5) if name.endswith("variance") else (-0.1, 0.1)
            values[variable] = rng.uniform(low, high, shape)
        else:
            values[variable] = given[f"{kinds[kind]}_{counts[kind]}"]
            counts[kind] += 1
    return values


def main(folder):
    given = dict(np.load(folder / "units.npz"))
    images = dict(np.load(folder / "images.npz"))
    answers = {}
    with tf1.Session(graph=tf1.Graph()) as session, session.graph.as_default():
        inputs = tf1.placeholder(tf.float32, [None, None, None, 3], "images")
        # One graph for every size: slim fixes the last pool to the size it is built for.
        outputs = build(tf1.placeholder_with_default(inputs, [None, 299, 299, 3]), True)
        for variable, value in assignments(given).items():
            variable.load(value.astype(np.float32), session)
        tf1.train.Saver().save(session, str(folder / "slim.ckpt"), write_meta_graph=False)
        first = tf1.train.Saver(write_version=tf1.train.SaverDef.V1)
        first.save(session, str(folder / "slim_v1.ckpt"), write_meta_graph=False)
        frozen = tf1.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), ["probabilities"]
        )
        (folder / "slim.pb").write_bytes(frozen.SerializeToString())
        x = images["whole"].astype(np.float32) / 127.5 - 1
        found = session.run(outputs, {inputs: x})
        answers |= {f"whole/{name}": value for name, value in found.items()}
    size = images["other"].shape[1]
    with tf1.Session(graph=tf1.Graph()) as session, session.graph.as_default():
        outputs = build(tf1.placeholder(tf.float32, [None, size, size, 3], "images"), False)
        tf1.train.Saver().restore(session, str(folder / "slim.ckpt"))
        x = images["other"].astype(np.float32) / 127.5 - 1
        found = session.run(outputs, {"images:0": x})
        answers |= {f"other/{name}": value for name, value in found.items()}
    np.savez(folder / "answers_tf.npz", **answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
