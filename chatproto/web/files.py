"""``GET /files/NAME`` and ``/files/NAME/thumb``: what guests and admins sent (docs/protocol.md, *Files over HTTP*).

Known images, sounds and videos are shown in place; everything else is downloaded, whatever it is called. From a bucket
the bytes come through here as well: our header fields stand on them, and the bucket need not be public.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import quote

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.web.http import NOT_MODIFIED
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from chatproto.errors import StorageError
from chatproto.files.kinds import SHOWN
from chatproto.files.place import NAME, NotThere, Unavailable
from chatproto.files.store import FileStore
from chatproto.services.uploads import Uploads
from chatproto.web.headers import file_fields
from chatproto.web.plain import say
from chatproto.web.wishes import has

log = Logger()

THUMB = b"thumb"

LOOK_UPS = 2
"""Questions to the database at once: however many files are asked for, links are left for conversations."""

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
# What may stand unescaped in a parameter of RFC 8187.
_PLAIN = "!#$&+-.^_`|~"


class _Wanted(NamedTuple):
    """What is to be sent: *key* in the store, *title* where it has one."""

    key: str
    size: int
    media_type: str
    title: str | None


class Files(Resource):
    """Everything below /files. ``POST /files`` never comes here: :mod:`chatproto.web.uploads`."""

    isLeaf = True

    def __init__(self, uploads: Uploads, store: FileStore) -> None:
        super().__init__()
        self._uploads = uploads
        self._store = store
        self._look_ups = DeferredSemaphore(LOOK_UPS)

    def render(self, request: Request) -> Any:
        if not request.postpath or request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD" if request.postpath else b"POST")
            return say(request, 405, "method not allowed")
        name = request.postpath[0].decode("latin-1")
        thumb = request.postpath[1:] == [THUMB]
        if not NAME.fullmatch(name) or name.endswith("-thumb") or len(request.postpath) > 1 + thumb:
            return say(request, 404, "not found")
        gone: Deferred[None] = request.notifyFinish()
        sending = _Sending(request)
        gone.addErrback(lambda _: sending.stopProducing())
        answer = Deferred.fromCoroutine(self._answer(request, sending, name, thumb))
        answer.addErrback(sending.failed)
        return NOT_DONE_YET

    async def _answer(self, request: Request, sending: _Sending, name: str, thumb: bool) -> None:
        try:
            wanted = await self._find(sending, name, thumb)
            if wanted is None:
                sending.say(404, "not found")
            else:
                await self._send(request, sending, wanted)
        except (StorageError, Unavailable) as error:
            log.warn("a file could not be read: {error}", error=str(error))
            sending.unavailable()
        except NotThere:
            sending.say(404, "not found")

    async def _find(self, sending: _Sending, name: str, thumb: bool) -> _Wanted | None:
        await self._look_ups.acquire()
        try:
            row = None if sending.gone else await self._uploads.find(name)
        finally:
            self._look_ups.release()
        if row is None:
            return None
        if not thumb:
            return _Wanted(name, row.size, row.media_type, row.title)
        if row.thumb_type is None or row.thumb_size is None:
            return None
        return _Wanted(f"{name}-thumb", row.thumb_size, row.thumb_type, None)

    async def _send(self, request: Request, sending: _Sending, wanted: _Wanted) -> None:
        etag = f'"{wanted.key}"'.encode()
        chosen = chosen_range(request.getHeader(b"range"), wanted.size)
        # Of a GET alone, and of the copy that the peer has (RFC 9110, 14.2).
        if request.method != b"GET" or request.getHeader(b"if-range") not in (None, etag):
            chosen = None
        start, end = chosen or (0, wanted.size)

        async def read(at: int) -> bytes:
            return await self._store.read(wanted.key, at, min(self._store.part, end - at))

        # Before the header: what is not there any more is a 404.
        first = await read(start) if request.method == b"GET" and start < end else b""
        if sending.gone:
            return
        request.security = file_fields()  # type: ignore[attr-defined]
        request.setHeader(b"Accept-Ranges", b"bytes")
        request.setHeader(b"ETag", etag)
        if has(request, wanted.key):
            request.setResponseCode(NOT_MODIFIED)
            request.finish()
            return
        if start >= end:
            request.setHeader(b"Content-Range", b"bytes */%d" % wanted.size)
            request.setHeader(b"Cache-Control", b"no-store")
            request.setResponseCode(416)
            request.setHeader(b"Content-Length", b"0")
            request.finish()
            return
        request.setHeader(b"Content-Type", wanted.media_type.encode())
        request.setHeader(b"Content-Disposition", disposition(wanted.media_type, wanted.title))
        request.setHeader(b"Content-Length", b"%d" % (end - start))
        if chosen is not None:
            request.setResponseCode(206)
            request.setHeader(b"Content-Range", b"bytes %d-%d/%d" % (start, end - 1, wanted.size))
        if request.method == b"HEAD":
            request.write(b"")
            request.finish()
        else:
            await sending.send(first, read, start, end)


@implementer(IPushProducer)
class _Sending:
    """Sends a file part by part, as fast as the peer takes them.

    :ivar gone: nobody reads any more.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._resumed: Deferred[None] | None = None
        self.gone = False

    def say(self, code: int, line: str) -> None:
        """A short answer instead of a file."""
        if not self.gone:
            self._request.write(say(self._request, code, line))
            self._request.finish()

    def unavailable(self) -> None:
        """The file cannot be read now; where it has begun, the end of the connection says that it is not whole."""
        if self.gone:
            return
        if self._request.startedWriting:
            self._request.unregisterProducer()
            self._request.loseConnection()
        else:
            self.say(503, "try again")

    async def send(self, first: bytes, read: Callable[[int], Awaitable[bytes]], start: int, end: int) -> None:
        request, part = self._request, first
        request.registerProducer(self, True)
        while part:
            request.write(part)
            start += len(part)
            if self._resumed is not None:
                await self._resumed
            part = await read(start) if start < end and not self.gone else b""
        if self.gone:
            return
        request.unregisterProducer()
        if start < end:
            # The header promised more; what is there is less.
            request.loseConnection()
        else:
            request.finish()

    def failed(self, failure: Any) -> None:
        log.failure("a file could not be sent", failure)
        self.unavailable()

    def pauseProducing(self) -> None:
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        self.gone = True
        self.resumeProducing()


def chosen_range(field: bytes | None, size: int) -> tuple[int, int] | None:
    """The part that a ``Range`` asks for, as [start, end); None for the whole (RFC 9110, 14.2).

    start = end: there is no such part. Several ranges at once are answered by the whole, as the RFC allows.
    """
    match = _RANGE.fullmatch(field.decode("latin-1").strip()) if field else None
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        return max(size - int(match[2]), 0), size
    start, last = int(match[1]), int(match[2]) if match[2] else size - 1
    if match[2] and last < start:
        return None
    return min(start, size), max(min(last + 1, size), min(start, size))


def disposition(media_type: str, title: str | None) -> bytes:
    """``Content-Disposition`` (RFC 6266): in place only what is known to be safe; the name for old and new clients."""
    how = "inline" if media_type in SHOWN else "attachment"
    if title is None:
        return how.encode()
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    plain = re.sub(r'["\\%/:]', "_", plain).strip() or "file"
    return f"{how}; filename=\"{plain}\"; filename*=UTF-8''{quote(title, safe=_PLAIN)}".encode()
