"""Studies, one module each: a preset (`config`), its command, cost and expected figures."""
