"""A whole server on a real database, and people who talk to it over links in memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import jwt
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from chatproto.commands import news
from chatproto.config import Config, load
from chatproto.connection.state import ConnectionState
from chatproto.errors import StorageError
from chatproto.server import ChatServer
from tests.connection.link import MemoryLink
from tests.database import DatabaseTestCase

reactor: Any = installed

PATIENCE = 10
"""Seconds after which a frame that does not come fails the test."""

SHOP_KEY = "the shop's secret, thirty-two bytes or more"

ADMIN_ENTRY = {
    "aix",
    "admin_id",
    "name",
    "avatar",
    "group_id",
    "group_name",
    "status",
    "guest_count",
    "capacity",
}
GUEST_ENTRY = {
    "gid",
    "external_id",
    "group_id",
    "name",
    "avatar",
    "online",
    "state",
    "admin_id",
    "unread",
    "last_seq",
    "read_seq",
    "guest_read_seq",
    "last_message",
    "last_time",
    "queued_at",
    "profile",
    "context",
}
MESSAGE = {"gid", "group_id", "seq", "sender", "msg", "file_type", "cmid", "created_at"}
SENDER = {"type", "id", "name", "avatar"}
DESK = {"ix", "admin_list", "guest_list", "guests_more", "is_refresh", "refresh_token"}
WELCOME = {
    "ix",
    "gid",
    "guest_token",
    "group_id",
    "state",
    "admin",
    "queue",
    "recs",
    "last_seq",
    "read_seq",
    "admin_read_seq",
    "unread",
    "is_refresh",
    "refresh_token",
}
HANDED = {"gid", "data", "guest_info", "recs"}
HANDOVER = {"from_aix", "to_aix", "note", "at"}
QUEUE = {"position", "waiting", "admins_online"}
GUEST_ADMIN = {"aix", "name", "avatar"}
STANDING = {"state", "admin", "queue"}
"""The fields of docs/protocol.md, each set complete."""

Frame = dict[str, Any]


class Client:
    """A connection and who sits behind it.

    :ivar told: pushes that nobody has asked for yet, in order.
    :ivar welcome: data of the reply to the login.
    """

    def __init__(self, room: RoomCase, server: ChatServer, address: str = "192.0.2.1") -> None:
        self.room = room
        self.server = server
        self.link = MemoryLink(self._came)
        self.state: ConnectionState = server.dispatch.opened(self.link, address)
        self.told: list[Frame] = []
        self.welcome: Frame = {}
        self.admin_id = 0
        self._replies: dict[str, Frame] = {}
        self._numbers = count(1)
        self._waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self._due = False

    @property
    def gid(self) -> int:
        return int(self.welcome["gid"])

    @property
    def ix(self) -> str:
        return self.state.ix

    @property
    def closed(self) -> tuple[int, str] | None:
        return self.link.closed

    # What comes.

    def _came(self) -> None:
        """A frame: whoever waits for it goes on in the next turn, when all that belongs to it is here."""
        if not self._due:
            self._due = True
            reactor.callLater(0, self._sort)

    def _sort(self) -> None:
        self._due = False
        frames, self.link.frames = self.link.frames, []
        for frame in frames:
            if "request_id" in frame:
                self._replies[frame["request_id"]] = frame
            else:
                self.told.append(frame)
        waiting, self._waiting = self._waiting, []
        for look, found in waiting:
            if result := look():
                found.callback(result)
            else:
                self._waiting.append((look, found))

    async def _until(self, look: Callable[[], Any], what: str) -> Any:
        """What *look* finds, as soon as it finds something true."""
        if result := look():
            return result
        found: Deferred[Any] = Deferred()
        self._waiting.append((look, found))

        def missing(*_: object) -> Any:
            raise AssertionError(f"{what} did not come; there is {self.told}")

        return await found.addTimeout(PATIENCE, reactor, onTimeoutCancel=missing)

    # What is asked.

    def send(self, api_key: int, **values: Any) -> str:
        """Ask without waiting; returns the request_id."""
        request_id = f"r{next(self._numbers)}"
        self.say({"api_key": api_key, "request_id": request_id, **values})
        return request_id

    def say(self, frame: Frame) -> None:
        self.server.dispatch.text(self.state, json.dumps(frame).encode())

    async def reply(self, request_id: str) -> Frame:
        frame: Frame = await self._until(lambda: self._replies.pop(request_id, None), f"the reply to {request_id}")
        return frame

    async def reply_or_end(self, request_id: str) -> Frame | None:
        """The reply, or None when the connection was closed before it came."""
        await self._until(lambda: request_id in self._replies or self.closed, f"the reply to {request_id}")
        return self._replies.pop(request_id, None)

    async def ask(self, api_key: int, **values: Any) -> Frame:
        """Ask, and wait for the whole reply."""
        frame = await self.reply(self.send(api_key, **values))
        self.room.assertEqual(
            (frame.keys(), frame["api_key"]),
            ({"api_key", "data", "code", "message", "status", "request_id"}, api_key),
        )
        return frame

    async def ok(self, api_key: int, **values: Any) -> Frame:
        """The data of a reply that must be a success."""
        frame = await self.ask(api_key, **values)
        self.room.assertEqual((frame["code"], frame["status"], frame["message"]), (200, "Success", ""), frame)
        data: Frame = frame["data"]
        return data

    async def refused(self, api_key: int, **values: Any) -> tuple[int, Frame]:
        """Code and data of a reply that must be an error."""
        frame = await self.ask(api_key, **values)
        self.room.assertLess(frame["code"], 0)
        self.room.assertEqual(frame["status"], "Error")
        self.room.assertNotEqual(frame["message"], "")
        return frame["code"], frame["data"]

    async def code(self, api_key: int, **values: Any) -> int:
        """The code of a reply."""
        return int((await self.ask(api_key, **values))["code"])

    async def push(self, number: int, **wanted: Any) -> Frame:
        """The data of the next push with this number, and these values in its data; it is taken out of ``told``."""

        def look() -> Frame | None:
            for frame in self.told:
                if frame["api_key"] == number and wanted.items() <= frame["data"].items():
                    self.told.remove(frame)
                    return frame
            return None

        frame: Frame = await self._until(look, f"{number} with {wanted}")
        self.room.assertEqual(frame.keys(), {"api_key", "data", "code", "message", "status"})
        self.room.assertEqual((frame["code"], frame["status"]), (number, "Success"))
        data: Frame = frame["data"]
        return data

    async def closing(self) -> tuple[int, str]:
        """Wait until the server closes; code and reason."""
        closed: tuple[int, str] = await self._until(lambda: self.link.closed, "the end of the connection")
        return closed

    def numbers(self) -> list[int]:
        """The numbers of the pushes in ``told``, which is empty afterwards."""
        self._sort()
        told, self.told = self.told, []
        return [frame["api_key"] for frame in told]

    async def leave(self) -> None:
        """The connection ends; returns when that is known everywhere."""
        here = self.state.principal is not None
        self.server.dispatch.closed(self.state, 1001, "")
        live = "SELECT 1 FROM session WHERE ix = %s AND ended_at IS NULL"
        while here and await self.room.sql(live, self.ix):
            await deferLater(reactor, 0.01)


class RoomCase(DatabaseTestCase):
    """A server with one group, ``self.group``."""

    ahead = 0.0
    """Seconds that the clock of the tokens is ahead."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        # What whole groups are told is told at once; how often is for the tests of the news.
        self.patch(news, "EVERY", 0.0)
        self.patch(news, "PLACES_EVERY", 0.0)
        self.server = await self.open()
        self.group = await self.add_group("shop")

    async def open(self, **changes: Any) -> ChatServer:
        """Start a server, with changes to its configuration."""
        server = ChatServer(configured(self, self.dsn, **changes), reactor, died=self.fail)
        await server.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        server.services.wall = server.hub._wall = self.wall
        return server

    def wall(self) -> float:
        return time.time() + self.ahead

    async def sql(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        return await self.server.pool.fetch(statement, params)

    async def add_group(self, name: str) -> int:
        [(id_,)] = await self.sql("INSERT INTO service_group (name) VALUES (%s) RETURNING id", name)
        return int(id_)

    async def add_admin(self, name: str, group: int | None = None, capacity: int = 10) -> int:
        [(id_,)] = await self.sql(
            "INSERT INTO admin (group_id, name, avatar, capacity) VALUES (%s, %s, %s, %s) RETURNING id",
            group or self.group,
            name,
            f"https://shop.example/{name}.png",
            capacity,
        )
        return int(id_)

    def token(self, life: int = 86400, age: int = 0, key: str = SHOP_KEY, **claims: Any) -> str:
        """A token of the shop.

        :param life: seconds from ``iat`` to ``exp``; *age* of them are over.
        """
        issued = int(self.wall()) - age
        return jwt.encode({"iat": issued, "exp": issued + life, **claims}, key, "HS256")

    def connect(self, server: ChatServer | None = None, address: str = "192.0.2.1") -> Client:
        return Client(self, server or self.server, address)

    async def admin(self, admin_id: int | None = None, *, name: str = "Ann", v: int = 2, **changes: Any) -> Client:
        """An admin who is logged in; a new one where no *admin_id* is given.

        :param changes: of :meth:`connect` and :meth:`add_admin`.
        """
        client = self.connect(changes.pop("server", None))
        if admin_id is None:
            admin_id = await self.add_admin(name, **changes)
        client.admin_id = admin_id
        client.welcome = await client.ok(31000, call_type=3, token=self.token(admin_id=admin_id), v=v)
        return client

    async def guest(self, sub: str | None = None, *, server: ChatServer | None = None, **values: Any) -> Client:
        """A guest who is logged in: the customer *sub*, or somebody anonymous."""
        client = self.connect(server)
        if sub is not None:
            values["token"] = self.token(sub=sub)
        values.setdefault("group_id", self.group)
        client.welcome = await client.ok(21000, call_type=1, **values)
        return client

    def assertFields(self, value: Frame, fields: set[str]) -> None:
        """The object has exactly these fields."""
        self.assertEqual(set(value), fields)

    def assertMessage(self, info: Frame) -> None:
        """A complete ``message_info``."""
        self.assertFields(info, MESSAGE)
        self.assertFields(info["sender"], SENDER)

    def assertHanded(self, data: Frame) -> None:
        """Complete data of 32400, 32401, 32402 and 32020."""
        self.assertFields(data, HANDED)
        self.assertFields(data["data"], HANDOVER)
        self.assertFields(data["guest_info"], GUEST_ENTRY)


async def away(*_: Any, **__: Any) -> Any:
    """Stands in the place of one statement while the database is away for it."""
    raise StorageError("away")


def configured(case: SynchronousTestCase, dsn: str | None, **changes: Any) -> Config:
    """The defaults with a database, a data directory and a key of the test's own, on any free port."""
    data = Path(case.mktemp()).absolute()
    data.mkdir(mode=0o700)
    key = data / "shop.key"
    key.write_text(SHOP_KEY)
    settings = {
        "database": dsn,
        "data": data,
        "listen": ("tcp:0:interface=127.0.0.1",),
        "jwt_secret_files": (key,),
        "pool_size": 4,
        **changes,
    }
    return replace(load({}, {}, Path("/")), **settings)
