"""placeholder"""
from thyrojax.config import Config
config = Config(name="busbra", input_size=160, batch_size=32, epochs=4.0, margin_max=50, margin_eval=25, lr=1e-3, trunk_lr_scale=0.1, folds=5, validation_fraction=0.1)
