"""CPU and memory as /proc tells them."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from bench.usage import Usage, cpu, is_client_backend, parse_stat, resident

TICK = os.sysconf("SC_CLK_TCK")


class ParseTests(SynchronousTestCase):
    def test_any_name(self) -> None:
        """A process may call itself what it likes; its time is still read."""
        line = f"7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 {2 * TICK} {TICK} {4 * TICK} {TICK} 20 0 1 0 55 1 1"
        stat = parse_stat(line)
        self.assertEqual((stat.parent, stat.own, stat.children), (3, 3.0, 5.0))

    def test_backends(self) -> None:
        """What PostgreSQL does for clients is told apart from what it does by itself."""
        self.assertTrue(is_client_backend("postgres: chatproto bench [local] idle"))
        for other in (
            "postgres: checkpointer ",
            "postgres: walwriter ",
            "postgres: autovacuum worker bench",
            "postgres",
        ):
            self.assertFalse(is_client_backend(other))


class ProcessTests(SynchronousTestCase):
    def test_this_process(self) -> None:
        """The numbers are those of the process that was asked for."""
        before = cpu(os.getpid())
        while os.times().user + os.times().system < before + 2 / TICK:
            pass
        self.assertGreater(cpu(os.getpid()), before)
        self.assertGreater(resident(os.getpid()), 1 << 20)

    def test_gone(self) -> None:
        """A process that has ended costs nothing more."""
        self.assertEqual(cpu(1 << 22), 0.0)

    def test_difference(self) -> None:
        """Only what was spent between two moments counts."""
        spent = Usage(5, 3, 2).since(Usage(1, 1, 1))
        self.assertEqual((spent, spent.total), (Usage(4, 2, 1), 7))
