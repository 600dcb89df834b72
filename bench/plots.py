"""Draws bench/results/latest.json. `python -m bench.plots [FOLDER]`: cost.svg and rate.svg, to docs/ by default."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt

mpl.rcParams["svg.fonttype"] = "none"  # text as text: a fifth of the size

if TYPE_CHECKING:
    from collections.abc import Sequence

LATEST: Final = Path(__file__).with_name("results") / "latest.json"
_DOCS: Final = Path(__file__).parents[1] / "docs"
_OURS: Final = "#1f6feb"
_PEER: Final = "#b0b7c3"
_COST_GROUPS: Final = ("python", "encode")


def draw(rows: Sequence[dict[str, Any]], label: str, to: Path) -> None:
    """Draw rows as pairs of bars on a logarithmic scale, the spread of the rounds as whiskers.

    Args:
        rows: of the results, measured in the same unit.
        label: of the axis.
        to: the SVG file.
    """
    figure, axes = plt.subplots(figsize=(9, 0.62 * len(rows) + 1.1), layout="constrained")
    for at, row in enumerate(reversed(rows)):
        for offset, key, colour in ((0.2, "ours", _OURS), (-0.2, "peer", _PEER)):
            found = row[key]
            spread = [[found["median"] - found["low"]], [found["high"] - found["median"]]]
            axes.barh(at + offset, found["median"], 0.38, color=colour, xerr=spread, ecolor="#444", capsize=2)
        factor = row["ratio"]["median"]
        axes.text(row["ours"]["high"] * 1.15, at + 0.2, f"{factor:,.0f} x", va="center", fontsize=9)
    titles = [f"{row['title']}\nbeside {row['peer_title']}" for row in reversed(rows)]
    axes.set_yticks(range(len(rows)), titles, fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(to, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Draw both."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _DOCS
    rows = [row for row in json.loads(LATEST.read_text())["rows"] if not row["skipped"]]
    costs = [row for row in rows if row["group"] in _COST_GROUPS and row["unit"] == "ns" and row["ratio"]["median"] > 5]
    draw(costs, "nanoseconds of processor time per span (less is better)", folder / "cost.svg")
    rates = [row for row in rows if row["unit"] == "spans/s"]
    draw(rates, "spans per second without a loss (more is better)", folder / "rate.svg")


if __name__ == "__main__":
    main()
