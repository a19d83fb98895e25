"""A daemon that may open few files: who is there goes on, and newcomers wait or are told to come again."""

from __future__ import annotations

import os
import resource
from typing import Any

from twisted.internet.threads import deferToThread

from tests.database import fresh_database
from tests.integration.case import ROOMY, ClientsTestCase, all_of
from tests.integration.daemon import Daemon, eventually
from tests.integration.raw import RawClient, handshake

LIMIT = 260
ROOM = LIMIT - 200  # as docs/operations.md says
_TWISTD = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
from twisted.scripts.twistd import run
run()
"""


class FilesTests(ClientsTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.daemon = Daemon(*ROOMY, database=await fresh_database(), program=("-c", _TWISTD))
        self.addCleanup(self.daemon.close)
        await self.daemon.start()
        self.group_id = self.daemon.add_group()

    def raw(self) -> RawClient:
        client = RawClient(self.daemon.port)
        self.addCleanup(client.close)
        return client

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd"))

    async def status(self, client: RawClient) -> str:
        head = await deferToThread(client.head)
        return head.partition("\r\n")[0]

    async def pair(self) -> tuple[Any, Any]:
        admin = await self.admin(self.daemon.add_admin(self.group_id, "Alice"), "alice")
        return admin, await self.guest()

    async def talk(self, admin: Any, guest: Any) -> None:
        await guest.good_request(22300, msg="are you there?")
        await admin.push(32399)

    async def test_full(self) -> None:
        """More clients than there are files for: the start says so, they get 503, a lost database comes back meanwhile,
        and when they have left there is room again."""
        self.assertIn(f"room for {ROOM} connections instead of 20000: {LIMIT} files may be open", self.daemon.log)
        admin, guest = await self.pair()
        idle = self.files()
        crowd = [self.raw() for _ in range(3 * ROOM)]
        newcomer = self.raw()
        newcomer.socket.sendall(handshake())
        self.assertIn("503", await self.status(newcomer))
        await self.talk(admin, guest)
        self.daemon.sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await self.daemon.logged(r"database back \(general\)")
        await self.talk(admin, guest)
        for client in crowd:
            client.close()

        async def calm() -> bool:
            return self.files() <= idle

        await eventually(calm, "as few files as before")
        await self.guest("newcomer")
        self.assertNotIn("EMFILE", self.daemon.log)

    async def test_none_left(self) -> None:
        """When the limit leaves no file at all, newcomers wait without a word, and are let in when there are some."""
        admin, guest = await self.pair()
        resource.prlimit(self.daemon.pid, resource.RLIMIT_NOFILE, (self.files() - 5, LIMIT))
        newcomers = [self.raw() for _ in range(20)]
        for client in newcomers:
            client.socket.sendall(handshake())
        await self.daemon.logged("no files for more connections: 2 are there")
        for _ in range(10):
            await self.talk(admin, guest)
        lines = len(self.daemon.lines)
        resource.prlimit(self.daemon.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        for status in await all_of(*(deferToThread(client.head) for client in newcomers)):
            self.assertIn("101", status)
        await self.talk(admin, guest)
        self.assertEqual(self.daemon.lines[lines:], [])
        self.assertEqual(self.daemon.log.count("no files for more connections"), 1)
        self.assertNotIn("EMFILE", self.daemon.log)
