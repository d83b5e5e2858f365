"""Prints the listing; exit status 1 where a figure differs that is not the known misprint."""

from __future__ import annotations

import sys

from experiments.guan2019.published.listing import Line, all_lines
from experiments.guan2019.published.margins import contrasts, performances
from experiments.guan2019.published.sizes import size_rows


def main() -> int:
    lines = all_lines()
    rows = [("table", "item", "quantity", "printed", "computed", "", "beside")]
    rows += [
        (
            line.table,
            line.item,
            line.quantity,
            line.printed,
            line.computed,
            _mark(line),
            line.beside,
        )
        for line in lines
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(6)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[6]]).rstrip())
    different = [line for line in lines if not line.agrees]
    unknown = [line for line in different if not line.known]
    print(
        f"\n{len(lines)} printed figures: {len(lines) - len(different)} agree, "
        f"{len(different) - len(unknown)} differ by the misprint, {len(unknown)} differ otherwise\n"
    )
    for size in size_rows():
        for place in sorted({0, len(size.counts) - 1}):
            (right, of), (low, high) = size.counts[place], size.interval(place)
            print(
                f"{size.group} cm: {size.quantity} {size.printed} % if {right} of {of}: "
                f"95 % CI {low:.1f} to {high:.1f} %"
            )
    for found in performances():
        low, high = found.az_interval
        print(f"margin {found.margin} px: Az {found.az:.3f}, 95 % CI {low:.3f} to {high:.3f}")
    for pair in contrasts():
        print(
            f"margin {pair.best} against {pair.other} px: {pair.right_difference} of 399 more "
            f"right, P {pair.p_unpaired:.3f} unpaired; paired P < 0.05 only if at most "
            f"{pair.most_discordant} nodules tell them apart ({pair.chance_discordant:.0f} if they "
            f"erred independently); Az {pair.az_difference:+.3f}, P {pair.az_p_unpaired:.3f} "
            f"unpaired, P < 0.05 only at a correlation of {pair.least_correlation:.3f} or more"
        )
    return 1 if unknown else 0


def _mark(line: Line) -> str:
    if line.agrees:
        return "="
    return "misprint" if line.known else "DIFFERS"


if __name__ == "__main__":
    sys.exit(main())
