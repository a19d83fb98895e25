"""What a long run says of a server: whether anything grows."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from bench.soak import SETTLED, judged, not_flat, report
from bench.watch import MOST_ROWS, Flat, Sample, first_and_last, growth, shown


def sample(at: float, rss: float = 80.0, files: int = 1000, p99: float = 5.0, lag: int = 0) -> Sample:
    return Sample(at=at, rss=rss, files=files, p50=1.0, p99=p99, lag=lag, cores=0.5, backends=0.2)


def run(minutes: int, rss: float = 0.0, files: float = 0.0, p99: float = 0.0) -> list[Sample]:
    """A sample each 10 s, with what is added each minute; the descriptors of the first 90 s are its start."""
    return [
        sample(at, 80 + rss * at / 60, round(1000 + files * at / 60 - max(0, SETTLED - at) * 5), 5 + p99 * at / 60)
        for at in range(10, minutes * 60 + 1, 10)
    ]


class GrowthTests(SynchronousTestCase):
    def test_line(self) -> None:
        """What rises evenly is told by how much, whatever noise lies on it; what does not, by nothing."""
        self.assertAlmostEqual(growth([(at, 3 + at / 2) for at in range(11)]), 5)
        self.assertAlmostEqual(growth([(at, 3 + at / 2 + (1, -1, -1, 1)[at % 4]) for at in range(12)]), 5.5, places=0)
        self.assertEqual(growth([(1, 7), (2, 7), (3, 7)]), 0)
        self.assertEqual((growth([]), growth([(1, 7)])), (0, 0))

    def test_bound(self) -> None:
        """A part of the mean may be added, and a little in any case."""
        flat = Flat("memory", " MiB", 0.1, 4)
        self.assertIsNone(flat.flaw([(0, 95), (1, 105)]))
        self.assertIsNone(flat.flaw([(0, 10), (1, 14)]))
        self.assertEqual(flat.flaw([(0, 90), (1, 110)]), "memory grew by 20.0 MiB around 100 MiB")

    def test_first_and_last(self) -> None:
        """One outlier is no trend."""
        self.assertEqual(first_and_last([1, 50, 1, 2, 2, 2, 3, 3, 99]), (1, 3))


class VerdictTests(SynchronousTestCase):
    def test_flat(self) -> None:
        """A server that stays as it is after its start passes, though many connections gather at first."""
        self.assertEqual(not_flat(run(30)), [])

    def test_each_growth(self) -> None:
        """Memory, open files and slowness that grow are each found and named."""
        for samples, word in ((run(30, rss=0.5), "memory"), (run(30, files=10), "open files"), (run(30, p99=1), "p99")):
            [flaw] = not_flat(samples)
            self.assertTrue(flaw.startswith(word), flaw)

    def test_figures(self) -> None:
        """The slopes are those of an hour, without the start."""
        found = judged(run(30, rss=0.1, files=1))
        self.assertAlmostEqual(found["rss_slope"], 6)
        self.assertAlmostEqual(found["files_slope"], 60, places=0)
        self.assertEqual(found["rss_first"], 80 + 0.1 * 100 / 60)

    def test_report(self) -> None:
        """A reader sees the verdict, the figures and the samples; a program can read them again."""
        samples = run(30)
        metrics = {**judged(samples), "replaced": 36000}
        text = report("30 minutes", samples, metrics, [])
        self.assertIn("stayed flat", text)
        self.assertIn("36,000 connections replaced", text)
        self.assertNotIn("stayed flat", report("30 minutes", samples, metrics, ["1 missing"]))
        self.assertEqual(json.loads(json.dumps(samples[0].json()))["files"], samples[0].files)

    def test_rows(self) -> None:
        """However long it took, the table fits a page."""
        self.assertLessEqual(len(shown(run(300))), MOST_ROWS + 2)
        self.assertEqual(len(shown(run(3))), 18 + 2)
