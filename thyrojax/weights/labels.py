"""Names of classes.

`imagenet_classes.txt` holds the 1000 classes of ILSVRC 2012 in the order of their WordNet numbers,
which is that of every network trained on them but the one of 2015: the synonyms of each, from
WordNet 3.0 (Princeton University), as timm 1.0 lists them in `imagenet_synsets.txt` and
`imagenet_synset_to_lemma.txt` (Copyright 2019 Ross Wightman, Apache-2.0). Two are "crane": 134 is
the bird, 517 the machine.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from thyrojax.errors import WeightsError

BACKGROUND = "background"  # class 0 of TF-slim's 1001


@cache
def imagenet_labels() -> tuple[str, ...]:
    """The 1000 classes of ImageNet, each with its synonyms ("tench, Tinca tinca")."""
    text = resources.files("thyrojax.weights").joinpath("imagenet_classes.txt").read_text("utf-8")
    return tuple(text.splitlines())


def labels_for(n_classes: int, known: Any = None) -> list[str]:
    """Names of a classifier's classes.

    Without names of the file's own, 1000 classes are taken for ImageNet's, 1001 for TF-slim's (a
    background before them). Others are numbered: so are the 1008 of the network of 2015 (FID),
    whose order is another and whose list is not shipped.

    Args:
      n_classes: how many there are.
      known: `labels` of the file's metadata, None where it has none.

    Raises:
      WeightsError: `known` is not a list of that many names.
    """
    if known is not None:
        if not isinstance(known, list) or not all(isinstance(name, str) for name in known):
            raise WeightsError(f"labels: found {known!r:.80}, expected a list of names")
        if len(known) != n_classes:
            raise WeightsError(f"labels: found {len(known)} names, expected {n_classes}")
        return list(known)
    if n_classes == 1000:
        return list(imagenet_labels())
    if n_classes == 1001:
        return [BACKGROUND, *imagenet_labels()]
    return [f"class {number}" for number in range(n_classes)]
