"""Inception-v3 for thyroid ultrasound in JAX, after Guan et al. 2019 (Ann Transl Med 7:137)."""

__version__ = "0.1.0"
