"""``POST /files``: a guest or an admin sends a file (docs/protocol.md, *Files over HTTP*).

One file a request, its body the bytes as they are: nothing has to be taken apart before it can be written, and a page
sees the progress of it. Who sends it is told by the token of the connection, in a header field, never in the address.
"""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.http import datetimeToString

from chatproto import errors
from chatproto.connection.admission import Admission, origin_allowed
from chatproto.connection.intake import Intake, RequestLine, SenderGone
from chatproto.connection.rate import Newcomers
from chatproto.errors import ChatError, StorageError
from chatproto.files.place import Unavailable
from chatproto.files.refusal import UploadRefused
from chatproto.services.uploads import Stored, Uploads
from chatproto.web.headers import SECURITY, SERVER

if TYPE_CHECKING:
    from chatproto.config import Config

log = Logger()

PATH = "/files"

AT_ONCE = 4
"""Files that one guest or admin may send at once."""

SHARE = 4
"""One address gets at most this part of what may arrive at once: who sends drop by drop does not keep others out."""

ATTEMPTS = 10
"""How many times as many tries as one guest has come from one address: several people may be behind it."""

STATUS = {
    "name": 400,
    "empty": 400,
    "token": 401,
    "banned": 403,
    "origin": 403,
    "too_large": 413,
    "rate": 429,
    "quota": 429,
    "internal": 500,
    "busy": 503,
    "stopping": 503,
    "database": 503,
    "store": 503,
    "no_room": 507,
}
"""The words of docs/protocol.md, and the status that each has."""

_BANNED = (errors.AdminBanned, errors.AdminGroupBanned, errors.GuestBanned, errors.GuestGroupBanned)
_HOST = re.compile(r"[A-Za-z0-9.\-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


class _Sending:
    """A request as :class:`~chatproto.services.uploads.Sending`."""

    def __init__(self, intake: Intake, title: str) -> None:
        self.size = intake.size
        self.title = title
        self.declared = (intake.head.first("content-type") or "").lower()
        self.proceed = intake.proceed
        self.read = intake.read


class Uploader:
    """The :class:`~chatproto.connection.intake.Taker` of uploads.

    :param stopping: whether the server is.
    """

    def __init__(self, uploads: Uploads, config: Config, seconds: Callable[[], float], stopping: Callable[[], bool]):
        self.stall = config.dead_after
        self.longest = config.upload_timeout
        self._uploads = uploads
        self._most = config.max_uploads
        self._admission = Admission(config)
        self._stopping = stopping
        self._attempts = Newcomers(config.uploads_per_minute * ATTEMPTS, seconds)
        self._rate = Newcomers(config.uploads_per_minute, seconds)
        self._by_sender: Counter[str] = Counter()
        self._under_way = 0
        self._idle: Deferred[None] | None = None

    def takes(self, line: RequestLine) -> bool:
        return line.method == "POST" and line.target == PATH

    async def idle(self) -> None:
        """Wait for those under way, whose senders have gone."""
        if self._under_way:
            self._idle = Deferred()
            await self._idle

    async def __call__(self, intake: Intake) -> bytes:
        self._under_way += 1
        try:
            return await self._answer(intake)
        finally:
            self._under_way -= 1
            if self._idle is not None and not self._under_way:
                self._idle.callback(None)

    async def _answer(self, intake: Intake) -> bytes:
        try:
            stored = await self._take(intake)
            return response(intake, 201, shown(stored, base_of(intake, self._admission)))
        except UploadRefused as refused:
            return refusal(intake, refused.error, refused.details)
        except errors.TooManyRequests as error:
            return refusal(intake, "rate", error.data)
        except _BANNED:
            return refusal(intake, "banned", {})
        except ChatError:
            return refusal(intake, "token", {})
        except StorageError as error:
            log.warn("an upload failed: {error}", error=str(error))
            return refusal(intake, "database", {"retry_after_ms": 1000})
        except Unavailable as error:
            log.error("a file could not be kept: {error}", error=str(error))
            return refusal(intake, "store", {"retry_after_ms": 1000})
        except SenderGone:
            raise
        except Exception:
            trace_id = secrets.token_hex(8)
            log.failure("an upload failed, {trace_id}", trace_id=trace_id)
            return refusal(intake, "internal", {"trace_id": trace_id})

    async def _take(self, intake: Intake) -> Stored:
        head = intake.head
        if self._stopping():
            raise UploadRefused("stopping", retry_after_ms=1000)
        if not origin_allowed(head.first("origin"), head.first("host"), ()):
            raise UploadRefused("origin")
        address = self._admission.key(self._admission.client_address(intake.peer, head))
        self._attempts.admit(address)
        if self._under_way > self._most:
            raise UploadRefused("busy", retry_after_ms=1000)
        with self._one_more(address, max(self._most // SHARE, 1)):
            title = title_of(intake)
            person = await self._uploads.who(bearer(intake))
            key = f"{person.role.word} {person.id}"
            self._rate.admit(key)
            with self._one_more(key, AT_ONCE):
                return await self._uploads.take(person, _Sending(intake, title))

    @contextmanager
    def _one_more(self, sender: str, most: int) -> Iterator[None]:
        """:raises UploadRefused: that one sends so many already."""
        if self._by_sender[sender] >= most:
            raise UploadRefused("rate", retry_after_ms=1000)
        self._by_sender[sender] += 1
        try:
            yield
        finally:
            self._by_sender[sender] -= 1
            if not self._by_sender[sender]:
                del self._by_sender[sender]


def bearer(intake: Intake) -> str:
    """The token (RFC 6750, 2.1).

    :raises UploadRefused: there is none.
    """
    given = intake.head.fields.get("authorization", [])
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise UploadRefused("token")
    return token.strip()


def title_of(intake: Intake) -> str:
    """``X-File-Name``: the name as percent-encoded UTF-8, as header fields have no other letters; "" without one.

    :raises UploadRefused: it is not such.
    """
    try:
        return unquote((intake.head.first("x-file-name") or "").encode("latin-1"), "utf-8", "strict")
    except UnicodeError:
        raise UploadRefused("name") from None


def base_of(intake: Intake, admission: Admission) -> str:
    """The origin under which the sender knows us, as other people will open the file from their own pages.

    "" where the request does not tell; the address is relative then.
    """
    head = intake.head
    if (origin := head.first("origin")) is not None:
        return origin
    host = head.first("host") or ""
    if not _HOST.fullmatch(host):
        return ""
    secure = intake.secure
    if admission.trusts(intake.peer):
        secure = secure or head.members("x-forwarded-proto")[:1] == ["https"]
    return f"{'https' if secure else 'http'}://{host}"


def shown(stored: Stored, base: str) -> dict[str, Any]:
    """What the sender puts into ``msg``, and the kind."""
    url = f"{base}{PATH}/{stored.name}"
    found: dict[str, Any] = {"url": url}
    if (picture := stored.picture) is not None:
        if picture.thumbnail is not None:
            found["thumb"] = f"{url}/thumb"
        found |= {"width": picture.width, "height": picture.height}
    return found | {"name": stored.title, "size": stored.size, "kind": stored.kind}


def refusal(intake: Intake, error: str, details: dict[str, Any]) -> bytes:
    status = STATUS[error]
    fields: list[tuple[str, str]] = []
    if "retry_after_ms" in details:
        fields.append(("Retry-After", str(-(-details["retry_after_ms"] // 1000))))
    if status == 401:
        fields.append(("WWW-Authenticate", "Bearer"))
    return response(intake, status, {"error": error, **details}, *fields)


def response(intake: Intake, status: int, body: dict[str, Any], *fields: tuple[str, str]) -> bytes:
    encoded = json.dumps(body).encode()
    known = {
        "Server": SERVER.decode(),
        "Date": datetimeToString().decode(),
        "Content-Type": "application/json",
        "Content-Length": str(len(encoded)),
        **{name.decode(): value.decode() for name, value in SECURITY},
        **dict(fields),
    }
    if not intake.kept:
        known["Connection"] = "close"
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in known.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + encoded
