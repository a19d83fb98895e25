"""What is chosen on the command line of the benchmark."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from bench.__main__ import arguments, compared, files_needed, grown
from bench.axes import AXES, LENGTH
from bench.growth import GrowthSizes
from bench.results import Key, Measurement, Results
from bench.scenarios import CLOSED, SCENARIOS, Sizes


class ArgumentsTests(SynchronousTestCase):
    def test_by_default(self) -> None:
        """Nothing said is the whole comparison."""
        self.assertEqual(arguments([]).only, set(SCENARIOS))

    def test_growth(self) -> None:
        """One word stands for all axes; each can be named by itself, beside parts of the comparison."""
        self.assertEqual(arguments(["--only", "growth"]).only, set(AXES))
        self.assertEqual(arguments(["--only", "length,idle"]).only, {"length", "idle"})

    def test_unknown(self) -> None:
        """A misspelt name is told, with those that there are."""
        told = StringIO()
        with self.assertRaises(SystemExit), redirect_stderr(told):
            arguments(["--only", "idel"])
        self.assertIn("'idel' is none of closed-loop, ", told.getvalue())


class FilesTests(SynchronousTestCase):
    def test_most_connections(self) -> None:
        """A run that needs more open files than are allowed can say so before it begins."""
        needed = [files_needed({name}, Sizes(), GrowthSizes()) for name in ("closed-loop", "storm", "connections")]
        self.assertEqual(needed, [500, 10_500, 10_700])


class PartsTests(SynchronousTestCase):
    def test_what_was_measured(self) -> None:
        """Only what was measured replaces what the page shows."""
        growth = Results([Measurement(1, LENGTH.key(10), {})])
        comparison = Results([Measurement(1, Key(CLOSED, "10 pairs, window 1", "chatproto"), {})])
        self.assertEqual((compared(growth), grown(growth)), (False, {"length": LENGTH}))
        self.assertEqual((compared(comparison), grown(comparison)), (True, {}))
