"""DDTI: TI-RADS-benign (2, 3) against TI-RADS-suspicious (4a to 5) thyroid nodules.

    thyrojax data build ddti --from DDTI --out data/ddti
    thyrojax study experiments/crop_shape.py --data data/ddti --workdir studies/ddti

Data: the public set of Pedraza et al. 2015. Its label is a radiologist's grade, not pathology: say
"TI-RADS-suspicious", never "malignant". What lies outside the scan sector is blanked when the set
is built, because grades are burnt into some frames. Cost and figures: experiments/README.md.

Five of six nodules are suspicious, hence the balanced class weights.
"""

from thyrojax.config import Config

config = Config(
    name="ddti",
    input_size=160,
    folds=5,
    validation_fraction=0.15,
    epochs=6.0,
    batch_size=16,
    lr=1e-3,
    trunk_lr_scale=0.2,
    class_weights="balanced",
)
