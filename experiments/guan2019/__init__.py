"""The recipe of Guan et al. 2019: Inception-v3 from ImageNet, 384 px, square crops.

    thyrojax data build csv --from nodules.csv --out data/hospital
    thyrojax train guan2019 --data data/hospital --workdir runs/guan2019

Hardware: one GPU or TPU.
Figures on the authors' data, which are not public: sensitivity 93.3 %, specificity 87.4 %, Az 0.956
on 399 test nodules (margin 50 px). It has not been run on patients' data here.

From the paper: the network, its start, input size, crop, margins, two outputs. It does not state
the optimizer, rate, batch or epochs; those are ours.
"""

from thyrojax.config import Config

config = Config(
    name="guan2019",
    crop_shape="square",
    margin_min=0,
    margin_max=100,
    margin_eval=50,
    input_size=384,
    weights="imagenet",
    batch_size=32,
    epochs=30.0,
    optimizer="adamw",
    lr=1e-3,
    trunk_lr_scale=0.2,
    warmup_fraction=0.05,
    label_smoothing=0.1,  # as Szegedy et al. 2016, section 7
    ema=0.999,
    dtype="bfloat16",
)
