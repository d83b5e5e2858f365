"""The demo: fine-tune on the built-in phantom, on a laptop's CPU.

    make demo

Hardware: 2 CPU cores. Figures: README.md.
"""

from thyrojax.config import Config

config = Config(
    name="quickstart",
    input_size=160,
    epochs=5.0,
    batch_size=16,
    lr=1e-3,
    trunk_lr_scale=0.2,
    validation_fraction=0.15,
    test_fraction=0.3,
)
