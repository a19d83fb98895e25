"""What the page says of how cost grows."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.axes import ADMINS, AXES, CONNECTIONS, PAIRS, change, section
from bench.results import Measurement, Results, Spread


def measured(*rounds: tuple[int, int, float, float]) -> Results:
    """(round, pairs, rate, CPU-s per 1,000)."""
    return Results(
        [
            Measurement(number, PAIRS.key(count), {"rate": rate, "cpu_server": cpu})
            for number, count, rate, cpu in rounds
        ]
    )


RESULTS = measured((1, 1000, 4000, 0.3), (1, 10, 2000, 0.2), (2, 10, 3000, 0.2), (2, 1000, 4000, 0.4))


class PointsTests(SynchronousTestCase):
    def test_sorted_and_scaled(self) -> None:
        """Points lie from left to right whatever the order of the run, each with its least and its most."""
        rate, server = list(PAIRS.lines)[:2]
        self.assertEqual(
            PAIRS.points(RESULTS, rate), [(10, Spread(2500, 2000, 3000)), (1000, Spread(4000, 4000, 4000))]
        )
        self.assertEqual(PAIRS.points(RESULTS, server)[1], (1000, Spread(350, 300, 400)))

    def test_of_another_axis(self) -> None:
        """Points of one axis never turn up on another."""
        self.assertEqual([list(CONNECTIONS.points(RESULTS, line)) for line in CONNECTIONS.lines], [[]] * 4)

    def test_names(self) -> None:
        """Each axis has a name, a scenario and a picture of its own, and no line twice."""
        for of in ("name", "scenario", "picture"):
            self.assertEqual(len({getattr(axis, of) for axis in AXES.values()}), len(AXES))
        for axis in AXES.values():
            self.assertEqual(len({line.metric for line in axis.lines}), len(list(axis.lines)))


class SectionTests(SynchronousTestCase):
    def test_change(self) -> None:
        """The sentence compares both ends of the axis; what was not measured is not in it."""
        self.assertEqual(
            change(PAIRS, RESULTS),
            "From 10 to 1,000 pairs: messages a second: 2,500 → 4,000 (× 1.60); CPU a message, µs: server 200 → 350"
            " (× 1.75).",
        )
        self.assertEqual(change(PAIRS, measured((1, 10, 2000, 0.2))), "")
        self.assertEqual(change(ADMINS, RESULTS), "")

    def test_section(self) -> None:
        """Plot, sentence with the run it is from, and a table."""
        shown = section(PAIRS, RESULTS, "Full run of 2025-01-01")
        for line in (
            "![Growth: pairs](images/growth-pairs.svg)",
            "| pairs | messages a second | CPU a message, µs: server |",
            "| 10 | 2,500 (2,000–3,000) | 200 |",
            "| 1,000 | 4,000 | 350 (300–400) |",
        ):
            self.assertIn(line + "\n", shown)
        self.assertIn("(Full run of 2025-01-01.)", shown)
