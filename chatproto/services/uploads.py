"""Files that guests and admins send: who may, how much, and what becomes of them (docs/protocol.md, *Files over HTTP*).

A file is counted before its first byte is read, and is there for others only when all of it is kept and the database
knows it. Whatever fails on the way takes along what there was of it; what a killed process left is removed at its next
start.
"""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chatproto import errors
from chatproto.domain.model import Person, Role
from chatproto.domain.tokens import Keyring
from chatproto.files.kinds import FILE, HEAD, IMAGE, UNKNOWN, VIDEO, VOICE, sniff
from chatproto.files.pictures import Picture
from chatproto.files.refusal import UploadRefused
from chatproto.files.staging import Staged
from chatproto.files.store import FileStore
from chatproto.services.sessions import Sessions
from chatproto.storage import uploads
from chatproto.storage.pool import Pool, Transaction
from chatproto.storage.uploads import FileRow

log = Logger()

DAY = 86_400_000
"""Milliseconds over which the quota counts."""

LONGEST_TITLE = 200


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Bytes. *quota* is of one guest in 24 hours."""

    image: int
    voice: int
    video: int
    file: int
    quota: int

    def of(self, kind: str) -> int:
        return {IMAGE: self.image, VOICE: self.voice, VIDEO: self.video, FILE: self.file}[kind]

    @property
    def most(self) -> int:
        return max(self.image, self.voice, self.video, self.file)


class Sending(Protocol):
    """One file as it comes in.

    :ivar size: its bytes, as announced; no more and no fewer are read.
    :ivar title: what its sender calls it.
    :ivar declared: the media type that its sender gives.
    """

    @property
    def size(self) -> int: ...
    @property
    def title(self) -> str: ...
    @property
    def declared(self) -> str: ...

    def proceed(self) -> None:
        """It is wanted: its sender may begin."""

    def read(self) -> Deferred[bytes]:
        """The next bytes; b"" behind the last ones.

        It fails when the sender has gone.
        """


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that has arrived.

    :ivar picture: of an image.
    """

    name: str
    title: str
    size: int
    kind: str
    picture: Picture | None


class Uploads:
    """
    :param node: the name of this node, which outlives a restart.
    :param keyring: the keys as they are now.
    :param wall: Unix seconds.
    """

    def __init__(
        self,
        pool: Pool,
        store: FileStore,
        sessions: Sessions,
        node: str,
        limits: UploadLimits,
        keyring: Callable[[], Keyring],
        wall: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._store = store
        self._sessions = sessions
        self._node = node
        self._limits = limits
        self._keyring = keyring
        self._wall = wall

    async def tidy(self) -> None:
        """Remove what this node had begun to take when it was killed."""
        for name in await uploads.arriving(self._pool, self._node):
            await self._give_up(name)

    async def who(self, token: str) -> Person:
        """Whom a token stands for: a JWT of a guest or an admin as at 21000 and 31000, or a guest_token.

        :raises ChatError: as 21000 and 31000; GuestTokenRevoked also for a customer who has never logged in.
        """
        if "." not in token:
            return await self._sessions.known_guest(None, token)
        keyring, now = self._keyring(), self._wall()
        try:
            claims = keyring.verify_guest(token, now)
        except errors.GuestTokenBad:
            return (await self._sessions.admin(keyring.verify_admin(token, now))).person
        return await self._sessions.known_guest(claims, "")

    async def take(self, person: Person, sending: Sending) -> Stored:
        """Receive a file and keep it.

        :raises UploadRefused: it is too large for its kind or the quota, empty, or there is no room.
        What :meth:`Sending.read` raises when the sender has gone is raised here, too.
        """
        if not sending.size:
            raise UploadRefused("empty")
        if sending.size > self._limits.most:
            raise UploadRefused("too_large", max=self._limits.most)
        title = clean_title(sending.title)
        name = secrets.token_hex(20)
        await self._begin(name, person, sending.size, title)
        try:
            return await self._take(name, title, sending)
        except Exception:
            await self._give_up(name)
            raise

    async def find(self, name: str) -> FileRow | None:
        return await uploads.find(self._pool, name)

    async def _begin(self, name: str, person: Person, size: int, title: str) -> None:
        async def work(transaction: Transaction) -> None:
            if person.role is Role.GUEST:
                await uploads.lock(transaction, person)
                sent, until = await uploads.sent(transaction, person, DAY)
                if sent + size > self._limits.quota:
                    left = max(self._limits.quota - sent, 0)
                    raise UploadRefused("quota", max=self._limits.quota, left=left, retry_after_ms=until)
            await uploads.begin(transaction, name, self._node, person, size, title)

        await self._pool.repeated(work)

    async def _take(self, name: str, title: str, sending: Sending) -> Stored:
        staged = await self._store.open(sending.size)
        leftover: list[Any] = [staged]
        try:
            found = await self._receive(staged, sending)
            picture = None
            if found.kind == IMAGE:
                picture, thumbnail = await self._store.look(staged)
                leftover.append(thumbnail)
                if picture is None:
                    # What cannot be shown may still be wanted.
                    found = found._replace(kind=FILE, media_type=UNKNOWN)
                    self._check_size(FILE, sending.size)
            await self._store.seal(staged)
            await sending.read()  # nothing more, but it tells whether the sender is still there
            thumb_type = picture.thumbnail if picture is not None else None
            thumb_size = None
            if thumb_type is not None:
                thumb_size = await self._store.keep(thumbnail, f"{name}-thumb", thumb_type)
            await self._store.keep(staged.path, name, found.media_type)
            await uploads.stored(self._pool, name, found.media_type, thumb_type, thumb_size)
        finally:
            await self._store.discard(*leftover)
        return Stored(name, title, sending.size, found.kind, picture)

    async def _receive(self, staged: Staged, sending: Sending) -> Any:
        """Write a file as it comes; returns what it is, which its first bytes say."""
        sending.proceed()
        head = b""
        while len(head) < min(HEAD, sending.size):
            head += await sending.read()
        found = sniff(head[:HEAD], sending.declared)
        self._check_size(found.kind, sending.size)
        part = head
        while part:
            await self._store.write(staged, part)
            part = await sending.read()
        return found

    def _check_size(self, kind: str, size: int) -> None:
        if size > self._limits.of(kind):
            raise UploadRefused("too_large", kind=kind, max=self._limits.of(kind))

    async def _give_up(self, name: str) -> None:
        try:
            await self._remove(name)
        except Exception as error:
            # It stays known as arriving, and the next start removes it.
            log.warn("a file that was not taken could not be removed yet: {error}", error=str(error))

    async def _remove(self, name: str) -> None:
        await self._store.remove(name, f"{name}-thumb")
        await uploads.forget(self._pool, name)


def clean_title(title: str) -> str:
    """A file's name as others may see it: the last part of a path, nothing that cannot be seen or turns the line.

    At most :data:`LONGEST_TITLE` characters; what is cut is the middle, so that the ending stays.
    """
    last = title.replace("\\", "/").rpartition("/")[2]
    shown = "".join(one for one in last if unicodedata.category(one)[0] != "C" and one not in "\u2028\u2029")
    shown = " ".join(shown.split()).strip(". ")
    if len(shown) > LONGEST_TITLE:
        shown = f"{shown[: LONGEST_TITLE - 21]}…{shown[-20:]}"
    return shown or "file"
