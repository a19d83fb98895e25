"""The benchmark notices what must not happen."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.load import flaws
from bench.verify import Stored, compare

WHOLE = {"sent": 5, "acked_all": 5, "pushed_all": 10, "expected_pushes": 10, "error": ""}


class CompareTests(SynchronousTestCase):
    def flaws(self, sent: int, acknowledged: int, stored: Stored) -> list[str]:
        return compare({0: (sent, acknowledged)}, {0: stored}).flaws

    def test_all_there(self) -> None:
        """A run in which everything was stored is a result, also where the last acknowledgements were cut off."""
        self.assertEqual(self.flaws(5, 5, Stored(5, 5, 5, 0)), [])
        self.assertEqual(self.flaws(5, 4, Stored(5, 5, 5, 0)), [])

    def test_lost(self) -> None:
        """An acknowledged message that is not in the database is counted."""
        verdict = compare({0: (5, 5), 1: (3, 3)}, {0: Stored(4, 4, 4, 0)})
        self.assertEqual(verdict.lost, 4)
        self.assertEqual(verdict.flaws, ["4 acknowledged and not stored"])

    def test_gap(self) -> None:
        """seq is without gaps, and the conversation knows the last one."""
        for stored in (Stored(5, 6, 6, 0), Stored(5, 5, 6, 0)):
            self.assertEqual(self.flaws(6, 5, stored), ["1 conversations with a gap in seq"])

    def test_another_message(self) -> None:
        """What stands under a number is what was sent with it."""
        self.assertEqual(self.flaws(5, 5, Stored(5, 5, 5, 2)), ["2 stored that are not what was sent"])

    def test_stored_twice(self) -> None:
        """More rows than messages are a flaw."""
        self.assertEqual(self.flaws(5, 5, Stored(6, 6, 6, 0)), ["1 stored that were never sent"])


class FlawsTests(SynchronousTestCase):
    def test_none(self) -> None:
        """A clean run has none."""
        self.assertEqual(flaws(WHOLE), [])

    def test_counted(self) -> None:
        """Each kind is told, with the first error in full."""
        result = {**WHOLE, "duplicate": 1, "acked_all": 3, "pushed_all": 9, "error": "thread 0 got 1 again"}
        self.assertEqual(
            flaws(result), ["1 duplicate", "2 not acknowledged", "1 not delivered", "the first: thread 0 got 1 again"]
        )
