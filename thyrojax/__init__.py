"""Inception-v3 for thyroid ultrasound in JAX, after Guan et al. 2019 (doi 10.21037/atm.2019.04.34)."""

__version__ = "0.1.0"
