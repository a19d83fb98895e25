"""What a reader of the results sees."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from bench.report import Run, cell, document, markdown, marks, number, read_document, replaced, table
from bench.results import Key, Measurement, Results, Spread, Target, Term

KEY = Key("Idle connections", "10,000 connections", "chatproto")
RUN = Run("Full run of 2025-01-01", 3, {"CPU": "2 × a CPU"}, ["All on one machine."])
TARGETS = (
    Target("memory", Term("kib", (KEY,)), None, 10, 4, low=True, unit=" KiB"),
    Target("never measured", Term("rate", (KEY,)), None, 0.5, 0.8),
)


def results(*flaws: str) -> Results:
    return Results([Measurement(number, KEY, {"kib": kib}, flaws) for number, kib in ((1, 5.0), (2, 4.0), (3, 6.0))])


class CellTests(SynchronousTestCase):
    def test_three_digits(self) -> None:
        """Numbers are as exact as they are worth, of whatever size."""
        shown = {25312.7: "25,300", 1234.5: "1,230", 999.6: "1,000", 98.76: "98.8", 9.8123: "9.81", 0.04213: "0.0421"}
        self.assertEqual({value: number(value) for value in shown}, shown)
        self.assertEqual(number(0), "0")
        self.assertEqual(number(0.00001234), "0.0000")

    def test_spread(self) -> None:
        """Where rounds differ, the reader sees by how much."""
        self.assertEqual(cell(Spread(5, 4, 6), " ms"), "5.00 ms (4.00–6.00)")
        self.assertEqual(cell(Spread(5, 5, 5), " ms"), "5.00 ms")
        self.assertEqual(cell(None), "")

    def test_table(self) -> None:
        """It is a table for every reader of Markdown."""
        self.assertEqual(table(["a", "b"], [["1", "2"]]), ["| a | b |", "| --- | --- |", "| 1 | 2 |"])


class MarkdownTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """Machine, notes, targets with verdicts and the numbers of each scenario stand in one report."""
        report = markdown(RUN, results(), TARGETS)
        for line in (
            "**Full run of 2025-01-01**, 3 interleaved rounds: median (min–max).",
            "| CPU | 2 × a CPU |",
            "- All on one machine.",
            "| memory | ≤ 10.0 KiB | ≤ 4.00 KiB | 5.00 KiB (4.00–6.00) | enough |",
            "| never measured | ≥ 0.500 | ≥ 0.800 | not measured |  |",
            "### Idle connections",
            "|  | system | KiB a connection |",
            "| 10,000 connections | chatproto | 5.00 (4.00–6.00) |",
        ):
            self.assertIn(line + "\n", report)
        self.assertIn("received once and in order", report)

    def test_flaws_come_first(self) -> None:
        """A run that lost a message does not pass for a result."""
        report = markdown(RUN, results("1 missing"), TARGETS)
        self.assertIn("**Not as it has to be:**", report)
        self.assertIn("- round 1, Idle connections, 10,000 connections, chatproto: 1 missing\n", report)
        self.assertNotIn("received once and in order", report)


class RatioTests(SynchronousTestCase):
    def test_against_the_yardsticks(self) -> None:
        """Where systems are compared, each round is compared with itself before the median is taken."""
        ours, echo = (Key("Closed loop", "100 pairs", system) for system in ("chatproto", "echo"))
        compared = Results(
            [
                Measurement(1, ours, {"rate": 10, "cpu": 1}),
                Measurement(1, echo, {"rate": 20, "cpu": 2}),
                Measurement(2, ours, {"rate": 30, "cpu": 1}),
                Measurement(2, echo, {"rate": 20}),
            ]
        )
        report = markdown(RUN, compared, ())
        self.assertIn("| chatproto ÷ … | echo: rate | echo: CPU |\n", report)
        self.assertIn("| 100 pairs | 1.00 (0.500–1.50) | 0.500 |\n", report)
        self.assertNotIn("÷", markdown(RUN, results(), ()))


class DocumentTests(SynchronousTestCase):
    def test_json(self) -> None:
        """Programs get every measurement, the medians and the verdicts."""
        made = json.loads(json.dumps(document(RUN, results(), TARGETS)))
        self.assertEqual(made["measurements"][1]["metrics"], {"kib": 4.0})
        self.assertEqual(made["summary"][0]["metrics"], {"kib": {"median": 5.0, "min": 4.0, "max": 6.0}})
        self.assertEqual([target["verdict"] for target in made["targets"]], ["enough", None])
        self.assertEqual(made["flaws"], [])

    def test_replaced(self) -> None:
        """Recording changes the results in the document and nothing around them."""
        begin, end = marks("results")
        other = "\n".join(marks("others"))
        text = f"before\n{other}\n{begin}\nold\n{end}\nafter\n"
        self.assertEqual(replaced(text, "results", "new\n"), f"before\n{other}\n{begin}\n\nnew\n\n{end}\nafter\n")
        self.assertEqual(
            replaced(replaced(text, "results", "new\n"), "results", "new\n"), replaced(text, "results", "new\n")
        )

    def test_read_again(self) -> None:
        """What was kept makes the same report later."""
        made = json.loads(json.dumps(document(RUN, results("1 missing"), TARGETS)))
        run, again = read_document(made)
        self.assertEqual(markdown(run, again, TARGETS), markdown(RUN, results("1 missing"), TARGETS))

    def test_no_marks(self) -> None:
        """A document without a place for the results is left alone."""
        with self.assertRaises(ValueError):
            replaced("text", "results", "new")
