"""What training makes small: the loss of a batch, from the outputs of both heads."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from thyrojax.config import Config
from thyrojax.shapes import Array, Float, Num


def cross_entropy(
    logits: Float[Array, "batch 2"],
    targets: Num[Array, " batch"],
    class_weights: Float[np.ndarray, " 2"],
    label_smoothing: float,
    focal_gamma: float = 0.0,
) -> Float[Array, ""]:
    """Softmax cross-entropy, each example weighted by its class, averaged over the batch.

    With p_c the probability and q_c the target of class c, an example's loss is

        - weight * sum_c q_c (1 - p_c)^gamma log p_c

    With a label for a target and gamma > 0 this is the focal loss, the weight its alpha (Lin et
    al. 2017, equation 5). Targets that are smoothed or mixed are shares of both classes; each
    class's term is then made small by how far that class is already predicted, while the weight is
    that of the classes before smoothing, in the shares in which they are mixed.

    Args:
      logits: of benign and malignant.
      targets: labels, 0 or 1, or shares of malignant where rows are mixed.
      class_weights: of benign and malignant.
      label_smoothing: share of the target that is spread evenly over both classes (Szegedy et al.
        2016, section 7).
      focal_gamma: 0 for plain cross-entropy.
    """
    malignant = targets.astype(jnp.float32)
    shares = jnp.stack([1.0 - malignant, malignant], axis=-1)
    smoothed = optax.smooth_labels(shares, label_smoothing)
    if focal_gamma:
        log_p = jax.nn.log_softmax(logits)
        # Of two classes, 1 - p of one is p of the other: its logarithm loses nothing near p = 1,
        # where the derivative of a power below 1 would be infinite.
        losses = -jnp.sum(smoothed * jnp.exp(focal_gamma * log_p[:, ::-1]) * log_p, axis=-1)
    else:
        losses = optax.softmax_cross_entropy(logits, smoothed)
    return jnp.mean(losses * (shares @ jnp.asarray(class_weights)))


def batch_loss(
    ends: Mapping[str, jax.Array],
    targets: Num[Array, " batch"],
    class_weights: Float[np.ndarray, " 2"],
    config: Config,
) -> Float[Array, ""]:
    """The loss of a batch: of `logits`, and `aux_weight` times that of any `aux_logits`.

    The auxiliary classifier and its weight are those of Szegedy et al. 2015 and 2016, section 4.
    """

    def loss(logits: jax.Array) -> jax.Array:
        return cross_entropy(
            logits, targets, class_weights, config.label_smoothing, config.focal_gamma
        )

    total = loss(ends["logits"])
    if config.aux_head:
        total += config.aux_weight * loss(ends["aux_logits"])
    return total
