"""What the command line works with: the configuration, and the database where a command asks for it."""

from __future__ import annotations

from typing import Any

from chatproto.config import Config
from chatproto.embedded import EmbeddedPostgres
from chatproto.services.assignment import Assignment
from chatproto.services.operator import Operator
from chatproto.storage.assignment import AssignmentStore
from chatproto.storage.migrations import migrate
from chatproto.storage.pool import Pool


class Office:
    """:param reactor: the global one: it runs PostgreSQL."""

    def __init__(self, config: Config, reactor: Any) -> None:
        self.config = config
        self.reactor = reactor
        self._embedded: EmbeddedPostgres | None = None
        self._pool: Pool | None = None

    async def operator(self) -> Operator:
        """The operator's hand on the database. The embedded one is started unless a daemon runs it already, and an old
        schema is brought up to date. Once for each office.

        :raises StartError: it cannot be reached or used.
        """
        dsn = self.config.database
        if dsn is None:
            self._embedded = EmbeddedPostgres(self.config.data, reactor=self.reactor)
            dsn = await self._embedded.start(join=True)
        self._pool = Pool(dsn, clock=self.reactor, size=1, timeout=self.config.query_timeout, name="cli")
        await self._pool.start()
        await migrate(self._pool)
        return Operator(self._pool, Assignment(AssignmentStore(self._pool, grace=round(self.config.grace * 1000))))

    async def close(self) -> None:
        """Leave everything as it was found: what was started here is stopped."""
        if self._pool is not None:
            await self._pool.close()
        if self._embedded is not None:
            await self._embedded.stop()
