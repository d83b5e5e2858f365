"""BUS-BRA: benign against malignant *breast* lesions, fine-tuned at a size that two CPU cores bear.

    thyrojax data build busbra --from BUS-BRA --out data/busbra
    thyrojax study experiments/crop_shape.py --data data/busbra --workdir studies/busbra

Data: the 1,089 images of 620 patients that were at hand, with pathology, of the 1,875 images of
1,064 patients of BUS-BRA (Gomez-Flores et al. 2023). It is the same job on another organ, with what
no public thyroid set has: pathology, patients and masks. Cost and figures: experiments/README.md.

Frames are small (median 286x383 px), so the margins are half the paper's.
"""

from thyrojax.config import Config

config = Config(
    name="busbra",
    margin_max=50,
    margin_eval=25,
    input_size=160,
    folds=5,
    validation_fraction=0.1,
    epochs=5.0,
    batch_size=16,
    lr=1e-3,
    trunk_lr_scale=0.2,
)
