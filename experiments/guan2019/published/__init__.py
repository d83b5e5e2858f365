"""The printed tables of Guan et al. 2019, and what follows from them.

    python -m experiments.guan2019.published

Hardware: any; a few seconds. No image is needed: the tables are counts, and the counts are enough
for every figure but the multivariate odds ratios. Expected: no difference at the printed precision
other than one misprinted row. docs/guan2019.md tells it for a reader.
"""
