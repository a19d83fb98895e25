"""Logging in by name and password: what an agent without a back office does to get a token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import DeferredSemaphore

from chatproto import errors
from chatproto.domain import passwords
from chatproto.storage import registry
from chatproto.storage.pool import Pool

AT_ONCE = 2
"""Comparisons under way: each takes a third of a second of a core and 32 MiB."""

MOST_WAITING = 20
"""Past so many in line, who comes is told to come again."""

Elsewhere = Callable[..., Awaitable[bool]]
"""Runs a function in a thread: what it takes, and its result."""


class Passwords:
    """:param elsewhere: as :func:`twisted.internet.threads.deferToThread`."""

    def __init__(self, pool: Pool, elsewhere: Elsewhere) -> None:
        self._pool = pool
        self._elsewhere = elsewhere
        self._turns = DeferredSemaphore(AT_ONCE)

    async def admin(self, name: str, password: str) -> int | None:
        """The id of the admin with this name, or number, and password. A name that nobody has takes as long.

        :raises TooManyRequests: too many are in line.
        :raises StorageError: the database does not answer.
        """
        if len(self._turns.waiting) >= MOST_WAITING:
            raise errors.TooManyRequests(retry_after_ms=2000)
        found = await registry.password_of(self._pool, name)
        admin_id, phc = found or (None, None)
        await self._turns.acquire()
        try:
            matches = await self._elsewhere(passwords.matches, password, phc)
        finally:
            self._turns.release()
        return admin_id if matches else None
