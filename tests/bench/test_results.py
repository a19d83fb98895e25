"""Medians, ratios within a round, verdicts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.results import Key, Measurement, Results, Spread, Target, Term

OURS = Key("Closed loop", "100 pairs, window 1", "chatproto")
ECHO = Key("Closed loop", "100 pairs, window 1", "Autobahn echo")


def rounds(key: Key, *rates: float) -> list[Measurement]:
    return [Measurement(number, key, {"rate": rate}) for number, rate in enumerate(rates, 1)]


class ResultsTests(SynchronousTestCase):
    def test_median_and_extremes(self) -> None:
        """One slow round moves the least, not the number people quote."""
        results = Results(rounds(OURS, 100, 90, 10))
        self.assertEqual(results.spread(OURS, "rate"), Spread(90, 10, 100))

    def test_what_was_not_measured_has_no_number(self) -> None:
        """A part of the run that was left out shows as missing, not as 0."""
        self.assertIsNone(Results(rounds(OURS, 1)).spread(ECHO, "rate"))
        self.assertIsNone(Results(rounds(OURS, 1)).spread(OURS, "cpu"))

    def test_measured_in_order(self) -> None:
        """The table has one line for each thing that was measured, in the order of the run."""
        results = Results([*rounds(ECHO, 1, 2), *rounds(OURS, 3)])
        self.assertEqual(results.measured(), [ECHO, OURS])

    def test_flaws_name_their_step(self) -> None:
        """Who reads that a message was lost sees where."""
        results = Results([Measurement(2, OURS, {}, ["1 missing"])])
        self.assertEqual(results.flaws(), ["round 2, Closed loop, 100 pairs, window 1, chatproto: 1 missing"])


class TargetTests(SynchronousTestCase):
    def target(self, *over: Key, low: bool = False) -> Target:
        return Target("", Term("rate", (OURS,)), Term("rate", over) if over else None, 0.5, 0.8, low)

    def test_ratio_within_each_round(self) -> None:
        """A round in which the whole machine was slow tells the same ratio as the others."""
        results = Results([*rounds(OURS, 50, 5, 60), *rounds(ECHO, 100, 10, 100)])
        self.assertEqual(self.target(ECHO).spread(results), Spread(0.5, 0.5, 0.6))

    def test_best_of_several_yardsticks(self) -> None:
        """We are held against pgbench with as many clients as suited it best, in each round."""
        other = Key("pgbench", "one row a commit, 32 clients", "PostgreSQL")
        results = Results([*rounds(OURS, 10, 10), *rounds(ECHO, 20, 40), *rounds(other, 40, 20)])
        self.assertEqual(self.target(ECHO, other).spread(results), Spread(0.25, 0.25, 0.25))

    def test_no_yardstick(self) -> None:
        """Without the yardstick there is no ratio."""
        self.assertIsNone(self.target(ECHO).spread(Results(rounds(OURS, 1))))
        self.assertIsNone(self.target(ECHO).spread(Results([*rounds(OURS, 1), *rounds(ECHO, 0)])))

    def test_number_of_its_own(self) -> None:
        """A latency or a size is compared as it is."""
        self.assertEqual(self.target().spread(Results(rounds(OURS, 7))), Spread(7, 7, 7))

    def test_verdicts(self) -> None:
        """On the bound is good enough, whichever side is the good one."""
        high, low = self.target(), Target("", Term("rate", (OURS,)), None, 4, 2, low=True)
        self.assertEqual(
            [high.verdict(value) for value in (0.49, 0.5, 0.79, 0.8)], ["missed", "enough", "enough", "reached"]
        )
        self.assertEqual([low.verdict(value) for value in (4.1, 4, 2.1, 2)], ["missed", "enough", "enough", "reached"])
