"""The plots of how cost grows, from the numbers of a run.

    python -m bench.plots RESULTS.json [DIRECTORY]

Needs matplotlib: ``pip install -e '.[bench]'``. Nothing else of chatproto does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from bench.axes import AXES, Axis, Panel
from bench.report import read_document
from bench.results import Results

_WIDTH, _HEIGHT = 4.4, 3.6
"""Of a panel, in inches."""
_COLOURS = ("#0b6e99", "#d9730d", "#0f7b6c", "#ad1a72", "#64473a", "#6940a5")

# The text stays text, and the same numbers make the same file.
matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "chatproto",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#888888",
        "axes.grid": True,
        "grid.color": "#e4e4e4",
        "legend.frameon": False,
    }
)


def draw(axis: Axis, results: Results, directory: Path) -> Path | None:
    """:returns: the picture; None where nothing was measured along the axis."""
    panels = [panel for panel in axis.panels if any(axis.points(results, line) for line in panel.lines)]
    if not panels:
        return None
    columns = min(len(panels), 3 if len(panels) != 4 else 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows), layout="constrained", facecolor="white")
    for place, panel in enumerate(panels, 1):
        _panel(figure.add_subplot(rows, columns, place), axis, panel, results)
    directory.mkdir(parents=True, exist_ok=True)
    picture = directory / axis.picture
    figure.savefig(picture, metadata={"Date": None, "Title": axis.scenario})
    return picture


def _panel(plot: matplotlib.axes.Axes, axis: Axis, panel: Panel, results: Results) -> None:
    counts: set[float] = set()
    for line, colour in zip(panel.lines, _COLOURS, strict=False):
        points = axis.points(results, line)
        if not points:
            continue
        across = [count for count, _ in points]
        middle = [spread.median for _, spread in points]
        below = [spread.median - spread.least for _, spread in points]
        above = [spread.most - spread.median for _, spread in points]
        plot.errorbar(
            across, middle, [below, above], marker="o", ms=4, lw=1.5, capsize=2, color=colour, label=line.label
        )
        counts |= set(across)
    ticks = sorted(counts)
    plot.set_xscale("log")
    plot.set_xticks(ticks, [f"{int(tick):,}" for tick in ticks])
    plot.minorticks_off()
    plot.set_xlabel(axis.across)
    plot.set_title(panel.title, fontsize=10, loc="left")
    if panel.steep:
        plot.set_yscale("log")
    else:
        # A line that looks steep because the axis begins at its foot would say what is not so.
        plot.set_ylim(bottom=0)
    plot.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    if len(panel.lines) > 1:
        # Below, where it hides no line.
        plot.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)


def main(given: Sequence[str]) -> int:
    kept, directory = Path(given[0]), Path(given[1]) if len(given) > 1 else Path(given[0]).parent
    _, results = read_document(json.loads(kept.read_text()))
    for axis in AXES.values():
        picture = draw(axis, results, directory)
        if picture is not None:
            print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
