"""When a login that finds the line full is to come back."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatproto.connection.appointments import HASTE, LONGEST, SOONEST, Appointments


class AppointmentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.appointments = Appointments(500, 5.0)

    def work_off(self, count: int, pace: float, begin: float = 0.0, waiting: int = 500) -> float:
        """*count* logins end, *pace* a second; returns when the last one did."""
        now = begin
        for n in range(count):
            now = begin + n / pace
            self.appointments.ended(now, waiting)
        return now

    def test_turns(self) -> None:
        """Of a thousand who come together each gets another time, in the order of their coming, without a gap."""
        now = self.work_off(200, 50.0)
        waits = [self.appointments.give(now) for _ in range(1000)]
        steps = [later - earlier for earlier, later in zip(waits, waits[1:], strict=False)]
        self.assertTrue(all(abs(step * 50 * HASTE - 1) < 0.02 for step in steps), steps[:3])

    def test_first_turn(self) -> None:
        """The first ones are back before the line is empty, so that the server is never idle while somebody waits."""
        now = self.work_off(200, 50.0)
        wait = self.appointments.give(now)
        self.assertTrue(SOONEST <= wait < 500 / 50, wait)

    def test_before_anything_is_measured(self) -> None:
        """Right after the start the pace is the one that the line was made for."""
        self.assertEqual(self.appointments.give(0.0), 2.5)
        self.assertAlmostEqual(self.appointments.give(0.0), 2.5 + 1 / (100 * HASTE))

    def test_quiet_times_say_nothing(self) -> None:
        """One login a minute is no pace: the crowd that comes then is not sent away for minutes."""
        now = self.work_off(200, 1 / 60, waiting=0)
        self.assertEqual(self.appointments.give(now), 2.5)

    def test_fast(self) -> None:
        """However fast logins end, nobody is asked to come back at once."""
        now = self.work_off(200, 100_000.0)
        self.assertAlmostEqual(self.appointments.give(now), SOONEST)

    def test_standstill(self) -> None:
        """While the database stands still nobody is told to come in an hour, and not all are told the same."""
        self.work_off(200, 50.0)
        waits = [self.appointments.give(10_000.0) for _ in range(50)]
        self.assertTrue(all(LONGEST / 2 <= wait <= LONGEST for wait in waits), waits)
        self.assertGreater(len(set(waits)), 1)

    def test_past(self) -> None:
        """Times that were given for a crowd that is gone are nothing to the next one."""
        for _ in range(1000):
            self.appointments.give(0.0)
        self.assertEqual(self.appointments.give(3600.0), 2.5)
