"""Who takes part: rows made through SQL, tokens made by the server's keyring, and the plan for the load generator."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.postgres import execute
from chatproto.config import Config
from chatproto.domain.tokens import Keyring, load_keyring

ADMINS_PER_GROUP = 10
PER_ADDRESS = 100
"""Connections from one source address; production's limit is 200."""

TEXT = "Good evening! I ordered the blue jacket (size M) on Monday, and the parcel has not moved since then."
"""What every message says: 100 characters."""

# The request of a current browser, on a page of the shop that has cookies, but for the key.
_HEAD = """\
GET / HTTP/1.1
Host: 127.0.0.1:{port}
Connection: Upgrade
Pragma: no-cache
Cache-Control: no-cache
User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 \
Safari/537.36
Upgrade: websocket
Origin: http://127.0.0.1:{port}
Sec-WebSocket-Version: 13
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: zh-CN,zh;q=0.9,en-GB;q=0.8,en;q=0.7
Cookie: session=6f1c0a52e9b14f0d8c7b3e2d1a0f9e8d; _ga=GA1.1.1402837465.1731400000; _ga_X1Y2Z3=GS1.1.1731400000.3.1.\
1731400815.0.0.0; cart=eyJpdGVtcyI6W3siaWQiOjEwMTcsInF0eSI6MX1dfQ==; consent=analytics%3D1%26ads%3D0; lang=zh-CN
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
"""

_ROWS = """
INSERT INTO service_group (id, name) SELECT i, 'Group ' || i FROM generate_series(1, %(groups)s) i;
INSERT INTO admin (id, group_id, name, capacity)
    SELECT i, (i - 1) / %(per_group)s + 1, 'Admin ' || i, %(guests)s + 1 FROM generate_series(1, %(admins)s) i;
INSERT INTO guest (id, external_id, name) SELECT i, 'bench-' || i, 'Guest ' || i FROM generate_series(1, %(guests)s) i;
INSERT INTO conversation (id, group_id, guest_id, state, admin_id, last_admin_id)
    SELECT i, a.group_id, i, 'serving', a.id, a.id
    FROM generate_series(1, %(guests)s) i JOIN admin a ON a.id = (i - 1) %% %(admins)s + 1;
INSERT INTO service (conversation_id, admin_id, started_at, first_seq)
    SELECT id, admin_id, now_ms(), 1 FROM conversation;
SELECT setval(pg_get_serial_sequence(t, 'id'), 1000000)
    FROM unnest(ARRAY['service_group', 'admin', 'guest', 'conversation', 'service']) t;
"""


@dataclass(frozen=True, slots=True)
class Connection:
    """One line of the plan; see load.c."""

    role: str
    thread: int
    login: str
    head: str

    def line(self, place: int) -> str:
        fields = (source_address(place), self.role, str(self.thread), self.login or "-", self.head)
        return "\t".join(fields) + "\n"


@dataclass(frozen=True, slots=True)
class People:
    """Admins 1 … *admins* in groups of *per_group*, and guests 1 … *guests*, served by them in turn.

    The conversation of a guest has the guest's id, and is thread ``id - 1`` of the load generator.
    """

    admins: int
    guests: int
    per_group: int = ADMINS_PER_GROUP

    def admin_of(self, gid: int) -> int:
        return (gid - 1) % self.admins + 1

    def group_of(self, admin_id: int) -> int:
        return (admin_id - 1) // self.per_group + 1

    def insert(self, dsn: str) -> None:
        """Make the rows, in a database that the daemon has just migrated."""
        groups = self.group_of(self.admins)
        numbers = {"groups": groups, "per_group": self.per_group, "admins": self.admins, "guests": self.guests}
        execute(dsn, _ROWS % numbers)
        execute(dsn, "VACUUM ANALYZE")

    def guest(self, logins: Logins, gid: int) -> str:
        """The login of a guest, to the group that serves the guest."""
        return logins.guest(gid, self.group_of(self.admin_of(gid)))


class Logins:
    """Login frames with tokens of the server whose data directory is *data*."""

    def __init__(self, data: Path) -> None:
        self._keyring: Keyring = load_keyring(Config(data=data))

    def admin(self, admin_id: int) -> str:
        token = self._keyring.issue({"admin_id": admin_id}, 86400, time.time())
        return _compact({"api_key": 31000, "call_type": 3, "token": token, "v": 2})

    def guest(self, gid: int, group_id: int) -> str:
        token = self._keyring.issue({"sub": f"bench-{gid}", "name": f"Guest {gid}"}, 86400, time.time())
        context = {"page_url": f"https://shop.example/products/{gid}", "title": "Jacket", "referrer": ""}
        return _compact({"api_key": 21000, "call_type": 1, "token": token, "group_id": group_id, "context": context})


def _compact(frame: Mapping[str, object]) -> str:
    return json.dumps(frame, separators=(",", ":"))


def _message(api_key: int, **more: object) -> str:
    """A message up to the value of its cmid."""
    return _compact({"api_key": api_key, **more, "msg": TEXT, "cmid": ""})[: -len('"}')]


def source_address(place: int) -> str:
    """Where the connection with this number comes from."""
    host = place // PER_ADDRESS
    return f"127.0.{1 + host // 250}.{1 + host % 250}"


def handshake(port: int) -> str:
    """The request of the handshake, but for the key and the empty line."""
    return _HEAD.format(port=port).replace("\n", "\r\n")


def pairs(people: People, logins: Logins, count: int | None = None) -> Iterator[Connection]:
    """Guests with the serving admin: of two neighbours, in one the guest writes, in the other the admin.

    Admins come first: they have to be on line before their guests write.

    :param count: only the first so many guests write or are written to; all others, and their admins, say nothing.
    """
    talking = people.guests if count is None else count
    for gid in range(1, talking + 1):
        login = logins.admin(people.admin_of(gid))
        if gid % 2:
            yield Connection("receive", gid - 1, login, "")
        else:
            yield Connection("send", gid - 1, login, _message(32300, gid=gid))
    for admin_id in range(talking + 1, people.admins + 1):
        yield Connection("idle", 0, logins.admin(admin_id), "")
    for gid in range(1, talking + 1):
        login = people.guest(logins, gid)
        if gid % 2:
            yield Connection("send", gid - 1, login, _message(22300))
        else:
            yield Connection("receive", gid - 1, login, "")
    for gid in range(talking + 1, people.guests + 1):
        yield Connection("idle", 0, people.guest(logins, gid), "")


def tabs(people: People, logins: Logins) -> Iterator[Connection]:
    """Every admin is here once; every guest has two tabs, writes in one and sees the message in the other.

    So what a message causes does not depend on how many admins there are: an answer and two pushes.
    """
    for admin_id in range(1, people.admins + 1):
        yield Connection("idle", 0, logins.admin(admin_id), "")
    for gid in range(1, people.guests + 1):
        login = people.guest(logins, gid)
        yield Connection("receive", gid - 1, login, "")
        yield Connection("send", gid - 1, login, _message(22300))


def asking(
    people: People, logins: Logins, gids: Iterable[int], *commands: Mapping[str, object]
) -> Iterator[Connection]:
    """Every admin is here; these guests send the commands in turn, and nothing else."""
    for admin_id in range(1, people.admins + 1):
        yield Connection("idle", 0, logins.admin(admin_id), "")
    for gid in gids:
        yield Connection("ask", gid - 1, people.guest(logins, gid), commands_in_turn(*commands))


def commands_in_turn(*commands: Mapping[str, object]) -> str:
    """What one who asks sends, each up to the value of its request_id."""
    return "\t".join(_compact({**command, "request_id": ""})[: -len('"}')] for command in commands)


def fan_out(people: People, logins: Logins, connections: int) -> Iterator[Connection]:
    """Every guest writes to an admin who is logged in on many connections."""
    for gid in range(1, people.guests + 1):
        login = logins.admin(people.admin_of(gid))
        for _ in range(connections):
            yield Connection("receive", gid - 1, login, "")
    for gid in range(1, people.guests + 1):
        yield Connection("send", gid - 1, people.guest(logins, gid), _message(22300))


def crowd(people: People, logins: Logins) -> Iterator[Connection]:
    """Everybody logs in, and says nothing."""
    for admin_id in range(1, people.admins + 1):
        yield Connection("idle", 0, logins.admin(admin_id), "")
    for gid in range(1, people.guests + 1):
        yield Connection("idle", 0, people.guest(logins, gid), "")


def echoes(count: int) -> Iterator[Connection]:
    """Senders of the same frames who get them back; nobody logs in."""
    for thread in range(count):
        yield Connection("echo", thread, "", _message(22300))


def write_plan(path: Path, connections: Iterable[Connection]) -> None:
    with path.open("w") as file:
        file.writelines(connection.line(place) for place, connection in enumerate(connections))
