"""What the proofs of delivery have in common: a daemon, a load that goes on, and the criteria at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from tests.integration.case import ROOMY, ClientsTestCase
from tests.integration.daemon import Daemon
from tests.integration.ledger import ACKNOWLEDGED
from tests.integration.writers import Load

reactor = cast(Any, installed_reactor)

FAST = (*ROOMY, "--rate", "100000", "--burst", "100000")
"""The writers write as fast as they are answered."""

CALM = 0.05
"""Seconds that the writers pause where a test waits for something else than messages."""


class DeliveryTestCase(ClientsTestCase):
    load: Load

    def later(self, coroutine: Any) -> None:
        self.addCleanup(lambda: Deferred.fromCoroutine(coroutine()))

    async def run_daemon(self, *options: str, **places: Any) -> Daemon:
        """Start a daemon, which is the test's own."""
        self.daemon = Daemon(*FAST, *options, **places)
        self.later(self.daemon.close)
        return await self.daemon.start()

    def make_load(self, *daemons: Daemon, guests: int = 4, pause: float = 0.0) -> Load:
        """Clients of a group of their own.

        :param daemons: which they are dealt to; without any the test's own daemon.
        :param pause: as :class:`Load` has it.
        """
        group_id = self.group_id = self.daemon.add_group()
        admin_ids = [self.daemon.add_admin(group_id, name) for name in ("Alice", "Bob")]
        ports = [_port(one) for one in daemons or (self.daemon,)]
        self.load = Load(group_id, admin_ids, ports, guests=guests, pause=pause)
        self.later(self.load.leave)
        return self.load

    def faults(self) -> list[str]:
        return self.load.ledger.faults(self.daemon.dsn, self.group_id)

    def keeps_its_promises(self, acknowledged: int) -> None:
        """At least so many messages were acknowledged, nothing is open, and all is as the protocol promises."""
        self.assertEqual(self.faults(), [])
        self.assertEqual(self.load.ledger.open, [])
        self.assertGreaterEqual(len(self.load.ledger.of(ACKNOWLEDGED)), acknowledged)

    def stayed(self, load: Load) -> None:
        """Nobody lost the connection."""
        self.assertEqual([(writer.name, writer.client.end) for writer in load.writers if writer.client.end], [])


def _port(daemon: Daemon) -> Callable[[], int]:
    return lambda: daemon.port


class Stopwatch:
    """Seconds, as this process gets them.

    It counts turns of a timer, each for as long as the timer's period, however late it comes: on a machine that is
    busy with something else this watch stands still with the processes that it measures, and no test fails for that.
    """

    TURN = 0.05

    def __init__(self) -> None:
        self._turns = 0
        self._counting = LoopingCall(self._count)
        self._counting.start(self.TURN, now=False)

    def _count(self) -> None:
        self._turns += 1

    @property
    def seconds(self) -> float:
        return self._turns * self.TURN

    async def stop(self) -> None:
        if self._counting.running:
            self._counting.stop()
