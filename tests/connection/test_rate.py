"""How often somebody may ask."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatproto.connection.rate import Newcomers, Rate
from chatproto.connection.state import ConnectionState
from chatproto.errors import TooManyRequests
from tests.connection.link import MemoryLink


def connection() -> ConnectionState:
    return ConnectionState("c", MemoryLink(), "192.0.2.1", 0.0)


class RateTests(SynchronousTestCase):
    def test_burst(self) -> None:
        """A client that just came may ask for everything its desk shows at once."""
        rate, client = Rate(50, 200), connection()
        rate.fill(client, 7.0)
        self.assertEqual([rate.take(client, 7.0) for _ in range(200)], [0.0] * 200)
        self.assertGreater(rate.take(client, 7.0), 0)

    def test_wait_is_enough(self) -> None:
        """Who waits as long as the reply says is served."""
        rate, client = Rate(50, 1), connection()
        rate.fill(client, 0.0)
        rate.take(client, 0.0)
        wait = rate.take(client, 0.0)
        self.assertAlmostEqual(wait, 1 / 50)
        self.assertEqual(rate.take(client, wait), 0.0)

    def test_refused_requests_are_free(self) -> None:
        """A client that asks while it is refused does not push the next request further away."""
        rate, client = Rate(50, 1), connection()
        rate.fill(client, 0.0)
        rate.take(client, 0.0)
        for _ in range(100):
            rate.take(client, 0.001)
        self.assertEqual(rate.take(client, 0.021), 0.0)

    def test_steady_pace(self) -> None:
        """The configured rate can be kept up for ever, and a rest never saves more than the burst."""
        rate, client = Rate(50, 3), connection()
        rate.fill(client, 0.0)
        self.assertEqual({rate.take(client, step / 50 + 1e-9 * step) for step in range(1000)}, {0.0})
        taken = [rate.take(client, 10_000.0) for _ in range(4)]
        self.assertEqual(taken[:3], [0.0] * 3)
        self.assertGreater(taken[3], 0)

    def test_clock_that_stands(self) -> None:
        """A time that lies before the last one takes nothing away and gives nothing."""
        rate, client = Rate(50, 2), connection()
        rate.fill(client, 10.0)
        self.assertEqual([rate.take(client, 9.0), rate.take(client, 8.0)], [0.0, 0.0])
        self.assertGreater(rate.take(client, 8.0), 0)

    def test_large_ones(self) -> None:
        """A frame counts once, and once more for each 4 KiB of it: a burst of large ones is no more than 800 KiB."""
        for size, count in ((0, 200), (4095, 200), (4096, 100), (8191, 100), (16384, 40), (65536, 12)):
            rate, client = Rate(50, 200), connection()
            rate.fill(client, 0.0)
            taken = 0
            while not rate.take(client, 0.0, size):
                taken += 1
            self.assertEqual(taken, count, size)

    def test_debt(self) -> None:
        """The last one that is allowed may be large; the next one waits until all of it is paid."""
        rate, client = Rate(50, 1), connection()
        rate.fill(client, 0.0)
        self.assertEqual(rate.take(client, 0.0, 65536), 0.0)
        wait = rate.take(client, 0.0)
        self.assertAlmostEqual(wait, 17 / 50)
        self.assertEqual(rate.take(client, wait), 0.0)

    def test_no_limit(self) -> None:
        """Rate 0 lifts the limit."""
        rate, client = Rate(0, 0), connection()
        rate.fill(client, 0.0)
        self.assertEqual({rate.take(client, 0.0) for _ in range(1000)}, {0.0})

    def test_connections_apart(self) -> None:
        """One client's flood costs nobody else anything."""
        rate, loud, quiet = Rate(50, 1), connection(), connection()
        rate.fill(loud, 0.0)
        rate.fill(quiet, 0.0)
        rate.take(loud, 0.0)
        self.assertGreater(rate.take(loud, 0.0), 0)
        self.assertEqual(rate.take(quiet, 0.0), 0.0)


class NewcomersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.newcomers = Newcomers(2, self.clock.seconds)

    def test_too_many(self) -> None:
        """The third new anonymous guest of an address within a minute is told when the next one may come."""
        self.newcomers.admit("192.0.2.1")
        self.clock.advance(10)
        self.newcomers.admit("192.0.2.1")
        self.clock.advance(10)
        refused = self.assertRaises(TooManyRequests, self.newcomers.admit, "192.0.2.1")
        self.assertEqual(refused.data, {"retry_after_ms": 40_001})
        self.clock.advance(40.001)
        self.newcomers.admit("192.0.2.1")
        self.assertRaises(TooManyRequests, self.newcomers.admit, "192.0.2.1")

    def test_addresses_apart(self) -> None:
        """Other addresses are not affected."""
        for _ in range(2):
            self.newcomers.admit("192.0.2.1")
        self.newcomers.admit("192.0.2.2")
        self.assertRaises(TooManyRequests, self.newcomers.admit, "192.0.2.1")

    def test_no_limit(self) -> None:
        """0 lifts the limit."""
        newcomers = Newcomers(0, self.clock.seconds)
        for _ in range(1000):
            newcomers.admit("192.0.2.1")

    def test_forgets(self) -> None:
        """A year of visitors does not fill the memory: addresses are kept for a minute."""
        for number in range(1000):
            self.newcomers.admit(f"192.0.2.{number}")
        self.clock.advance(61)
        self.newcomers.admit("198.51.100.1")
        self.assertEqual(list(self.newcomers._seen), ["198.51.100.1"])
