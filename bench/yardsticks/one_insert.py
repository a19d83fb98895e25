"""chatproto without group commit: a transaction of its own for each message, on eight links.

    CHATPROTO_DATA=DIR … twistd -n -y bench/yardsticks/one_insert.py

The daemon with another journal: eight of its journals side by side, each of which stores one message at a time. A
conversation has always the same of them, so its messages stay in order. The options come from the environment.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from chatproto.config import Config, load
from chatproto.server import ChatServer, Pools
from chatproto.services.messaging import Messaging
from chatproto.storage.journal import D, Journal, Thread, Told
from chatproto.storage.marks import ReadMarks
from chatproto.storage.pool import Pool
from chatproto.tap import ChatService

LINKS = 8


class Lanes(Journal):
    """Journals side by side, which share a pool of as many links."""

    def __init__(self, lanes: list[Journal]) -> None:
        self._lanes = lanes

    def put(self, draft: D, told: Told[D]) -> None:
        self._lane(draft.thread).put(draft, told)

    def release(self, thread: Thread) -> None:
        self._lane(thread).release(thread)

    def idle(self) -> Deferred[None]:
        return gatherResults([lane.idle() for lane in self._lanes]).addCallback(lambda _: None)

    def _lane(self, thread: Thread) -> Journal:
        return self._lanes[thread[1] % len(self._lanes)]


class OneInsertServer(ChatServer):
    async def _open_pool(self, name: str, size: int) -> Pool:
        return await super()._open_pool(name, LINKS if name == "journal" else size)

    def _build(self, name: str, keyring: Any, pools: Pools) -> None:
        super()._build(name, keyring, pools)
        config, pool, batches = self.config, pools.general, pools.journal
        timeout = config.query_timeout
        self.journal = Lanes(
            [
                Journal(batches, pool, self._reactor, timeout=timeout, batch_size=1, queue_size=config.queue_size)
                for _ in range(LINKS)
            ]
        )
        marks = ReadMarks(pools.marks, self._reactor, timeout=timeout, batch_size=config.batch_size)
        self.services.messaging = Messaging(self.journal, marks, self.services.assignment, pool)


class OneInsertService(ChatService):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._server = OneInsertServer(config, reactor, self._died)


if __name__ != "bench.yardsticks.one_insert":
    # twistd runs this file, and looks for this name.
    application = Application("chatproto, one INSERT a message")
    OneInsertService(load({}, os.environ, Path.cwd())).setServiceParent(application)
