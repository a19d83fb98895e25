"""What another process changed, told by NOTIFY: a connection of its own that listens on one channel.

PostgreSQL keeps no notification for who is not connected, so the listener reads everything again after each
connection, the first one included.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from chatproto.errors import StartError, StorageError
from chatproto.storage.connect import Settings, first, kept
from chatproto.storage.link import FOREVER, Clock, Link, Rows

_LIMIT = 5.0

_log = Logger()


class Control:
    """
    :param dsn: as :class:`chatproto.storage.pool.Pool`; it must lead to PostgreSQL itself (or a pooler's session mode).
    :param clock: the reactor.
    :param channel: the name that NOTIFY is sent to.
    :param heard: called with the payload of each notification.
    :param again: called each time listening begins: whatever was told before may have been missed.
    :raises StartError: ``dsn`` cannot be read.
    """

    def __init__(
        self, dsn: str, clock: Clock, channel: str, heard: Callable[[str], None], again: Callable[[], None]
    ) -> None:
        self._settings = Settings(dsn, name="control", limit=_LIMIT)
        self._clock = clock
        self._channel = channel
        self._heard = heard
        self._again = again
        self._link: Link | None = None
        self._gone: Deferred[None] | None = None
        self._keeper: Deferred[None] | None = None
        self._lost_once = False

    async def start(self) -> None:
        """Listen from now on, through every loss of the connection, until :meth:`close`.

        :raises StartError: one line saying why it was not possible within ten seconds.
        """
        try:
            link: Link | None = await self._listen(await first(self._settings, self._make, self._clock))
        except StorageError as error:
            raise StartError(f"database: {error}") from None

        async def connect() -> Link:
            nonlocal link
            ready, link = link, None
            return ready or await self._listen(await self._settings.open(self._make()))

        self._keeper = kept(connect, self._clock, self._listening)

    async def close(self) -> None:
        """Stop listening."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._link is not None:
            self._link.close()
            self._link = None

    def _make(self) -> Link:
        return Link(self._clock, lost=self._lost, notified=self._told)

    async def _listen(self, link: Link) -> Link:
        listening: Deferred[Rows] = Deferred()
        quoted = self._channel.replace('"', '""')
        link.execute(f'LISTEN "{quoted}"', (), listening, applied=None, deadline=FOREVER)
        try:
            await listening.addTimeout(_LIMIT, self._clock)  # type: ignore[arg-type]
        except TimeoutError:
            raise StorageError(f"no answer within {_LIMIT:g} s", applied=None) from None
        finally:
            if link.busy:
                link.close()
        return link

    def _listening(self, link: Link, gone: Deferred[None]) -> None:
        self._link = link
        self._gone = gone
        if self._lost_once:
            _log.info("database back (control)")
        self._call(self._again)

    def _lost(self, link: Link, why: str) -> None:
        if link is not self._link:
            return
        self._link = None
        self._lost_once = True
        _log.warn("database lost (control): {why}", why=why)
        if self._gone is not None:
            self._gone.callback(None)

    def _told(self, payload: str) -> None:
        self._call(self._heard, payload)

    def _call(self, listener: Callable[..., None], *payload: str) -> None:
        """A fault of the listener must not end the listening."""
        try:
            listener(*payload)
        except Exception:
            _log.failure("a change told by the database was not taken in")
