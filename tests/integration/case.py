"""What the tests of a whole daemon have in common."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.trial.unittest import TestCase

from tests.database import fresh_database
from tests.integration.client import Client
from tests.integration.daemon import Daemon

ROOMY: tuple[str, ...] = ("--max-connections-per-address", "10000", "--anonymous-per-minute", "100000")
"""All clients of the tests have one address."""

_WRONG = re.compile(r"Traceback|Unhandled|\bcritical\b")

_daemons: dict[tuple[str, ...], Daemon] = {}


async def shared_daemon(options: tuple[str, ...]) -> Daemon:
    """A daemon with these options for all tests of this run that want one; it ends with the run."""
    daemon = _daemons.get(options)
    if daemon is None or daemon.exit_code is not None:
        daemon = _daemons[options] = Daemon(*options, database=await fresh_database())
        await daemon.start()
    return daemon


class ClientsTestCase(TestCase):
    """A test with clients, which are gone when it has ended."""

    daemon: Daemon
    group_id: int

    def client(self, name: str = "client", *, tagged: bool = True) -> Client:
        client = Client(name, tagged=tagged)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.drop()))
        return client

    async def admin(self, admin_id: int, name: str = "admin", **fields: Any) -> Client:
        return await self.client(name).admin(self.daemon.port, admin_id, **fields)

    async def guest(self, name: str = "guest", **fields: Any) -> Client:
        return await self.client(name).guest(self.daemon.port, **{"group_id": self.group_id, **fields})

    def clean_log(self, since: int = 0) -> None:
        """The log of a normal day has no traceback in it."""
        wrong = [line for line in self.daemon.lines[since:] if _WRONG.search(line)]
        self.assertEqual(wrong, [], "".join(self.daemon.lines[since:]))


class DaemonTestCase(ClientsTestCase):
    """A test with a group of its own on a daemon that it shares with others.

    :cvar OPTIONS: of the daemon.
    """

    OPTIONS: tuple[str, ...] = ROOMY

    async def setUp(self) -> None:  # type: ignore[override]
        self.daemon = await shared_daemon(self.OPTIONS)
        self.group_id = self.daemon.add_group()
        since = len(self.daemon.lines)
        self.addCleanup(self.clean_log, since)


async def all_of(*waiting: Deferred[Any]) -> list[Any]:
    """The results of all; the first failure is raised."""
    results = await DeferredList(waiting, fireOnOneErrback=False, consumeErrors=True)
    for good, result in results:
        if not good:
            result.raiseException()
    return [result for _, result in results]
