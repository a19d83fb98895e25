"""Along what cost may grow, and which numbers show it. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.report import GROWTH, cell, number, table
from bench.results import Key, Results, Spread
from bench.servers import CHATPROTO


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot and one column of the table.

    :ivar scale: what the metric is multiplied by.
    """

    label: str
    metric: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot: lines with the same unit.

    :ivar steep: the vertical axis is logarithmic.
    """

    title: str
    lines: Sequence[Line]
    steep: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """:ivar name: what ``--only`` takes, and the name of the picture.
    :ivar scenario: of the keys.
    :ivar across: what the horizontal axis counts.
    """

    name: str
    scenario: str
    across: str
    panels: Sequence[Panel]

    @property
    def picture(self) -> str:
        """The file of the plot."""
        return f"growth-{self.name}.svg"

    @property
    def lines(self) -> Iterator[Line]:
        return (line for panel in self.panels for line in panel.lines)

    def key(self, count: int) -> Key:
        return Key(self.scenario, f"{count:,}", CHATPROTO)

    def points(self, results: Results, line: Line) -> list[tuple[float, Spread]]:
        """(count, what was measured there), from the least count to the highest."""
        found = []
        for key in results.measured():
            spread = results.spread(key, line.metric) if key.scenario == self.scenario else None
            if spread is not None:
                scaled = Spread(*(value * line.scale for value in (spread.median, spread.least, spread.most)))
                found.append((float(key.point.replace(",", "")), scaled))
        return sorted(found, key=lambda point: point[0])


RATE = Panel("messages a second", (Line("messages a second", "rate"),))
CPU = Panel(
    "CPU a message, µs",
    (Line("server", "cpu_server", 1000), Line("database backends", "cpu_backends", 1000)),
)
LOGIN = Panel(
    "CPU a login, µs",
    (Line("server", "login_server", 1000), Line("database backends", "login_backends", 1000)),
)

OPERATIONS: Mapping[str, str] = {
    "send": "send",
    "newest": "newest page",
    "middle": "page in the middle",
    "list": "guest list",
    "read": "send and mark read",
}
"""What is done with a long conversation."""
STATEMENTS: Mapping[str, str] = {
    "send": "send",
    "newest": "newest page",
    "middle": "page in the middle",
    "list": "guest list",
    "read": "mark one read",
    "read_all": "mark all read",
}
"""Of these the blocks are counted."""

PAIRS = Axis(
    "pairs", f"{GROWTH}pairs", "pairs", (RATE, CPU, Panel("p99 to the receiver, ms", (Line("p99", "push_p99"),)))
)
LENGTH = Axis(
    "length",
    f"{GROWTH}messages in the conversation",
    "messages in the conversation",
    (
        Panel("CPU an operation, µs", tuple(Line(label, f"us_{name}") for name, label in OPERATIONS.items())),
        Panel(
            "blocks that a statement touches",
            tuple(Line(label, f"blocks_{name}") for name, label in STATEMENTS.items()),
            steep=True,
        ),
    ),
)
CONNECTIONS = Axis(
    "connections",
    f"{GROWTH}idle connections beside the traffic",
    "idle connections",
    (RATE, CPU, Panel("p99 to the receiver, ms", (Line("p99", "push_p99"),))),
)
GROUPS = Axis("groups", f"{GROWTH}groups", "groups", (RATE, CPU, LOGIN))
ADMINS = Axis(
    "admins",
    f"{GROWTH}admins in the group",
    "admins in the group",
    (
        RATE,
        CPU,
        LOGIN,
        Panel(
            "CPU a start or end of service, µs",
            (
                Line("server", "step_server", 1000),
                Line("database backends", "step_backends", 1000),
            ),
        ),
    ),
)

AXES: Mapping[str, Axis] = {axis.name: axis for axis in (PAIRS, LENGTH, CONNECTIONS, GROUPS, ADMINS)}


def change(axis: Axis, results: Results) -> str:
    """From the least count to the highest, in a sentence."""
    told = []
    for panel in axis.panels:
        changes = []
        for line in panel.lines:
            points = axis.points(results, line)
            if len(points) > 1:
                first, last = points[0][1].median, points[-1][1].median
                ratio = f" (× {number(last / first)})" if first else ""
                label = "" if len(panel.lines) == 1 else f"{line.label} "
                changes.append(f"{label}{number(first)} → {number(last)}{ratio}")
        if changes:
            told.append(f"{panel.title}: {', '.join(changes)}")
    counts = sorted({int(count) for line in axis.lines for count, _ in axis.points(results, line)})
    if not told:
        return ""
    return f"From {counts[0]:,} to {counts[-1]:,} {axis.across}: {'; '.join(told)}."


def section(axis: Axis, results: Results, title: str) -> str:
    """What the page shows of an axis: the plot, the change, the numbers.

    :param title: of the run.
    """
    keys = sorted(
        (key for key in results.measured() if key.scenario == axis.scenario),
        key=lambda key: int(key.point.replace(",", "")),
    )
    lines = [line for line in axis.lines if any(line.metric in results.metrics(key) for key in keys)]
    head = [axis.across]
    for panel in axis.panels:
        for line in panel.lines:
            if line in lines:
                head.append(panel.title if len(panel.lines) == 1 else f"{panel.title}: {line.label}")
    rows = []
    for key in keys:
        found = {line: dict(axis.points(results, line)) for line in lines}
        count = float(key.point.replace(",", ""))
        rows.append([key.point, *(cell(found[line].get(count)) for line in lines)])
    picture = f"![{axis.scenario}](images/{axis.picture})"
    return "\n".join([picture, "", f"{change(axis, results)} ({title}.)", "", *table(head, rows)]) + "\n"
