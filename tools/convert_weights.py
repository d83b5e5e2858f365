"""Converts weights of Inception-v3 between formats: `thyrojax weights convert` as a script.

python tools/convert_weights.py inception.h5 inception.pth
"""

import sys

from thyrojax.cli import main

if __name__ == "__main__":
    sys.exit(main(["weights", "convert", *sys.argv[1:]]))
