"""Studies: many runs from one preset, and what comes out of them side by side."""
