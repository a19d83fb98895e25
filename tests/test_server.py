"""The whole node: starting, being ready, stopping; and two of them on one database, which tells no news by itself."""

from __future__ import annotations

import os
import shutil
import signal
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, readBody

from chatproto import server as server_module
from chatproto.embedded.directory import pid_file, servers_in
from chatproto.errors import StartError
from chatproto.server import ChatServer
from chatproto.services.assignment import Assignment
from chatproto.services.operator import Operator
from chatproto.storage.assignment import AssignmentStore
from chatproto.storage.pool import Transaction
from tests.commands.room import Client, RoomCase, configured, reactor
from tests.database import DatabaseTestCase, OwnClusterTestCase, execute, named, scratch
from tests.integration.client import Client as SocketClient


async def get(port: Any, path: str) -> tuple[int, str]:
    """Status and body of an HTTP response."""
    url = f"http://127.0.0.1:{port.getHost().port}{path}".encode()
    response = await Agent(reactor).request(b"GET", url)
    return response.code, (await readBody(response)).decode().strip()


class StartTests(DatabaseTestCase):
    def server(self, **changes: Any) -> ChatServer:
        server = ChatServer(configured(self, self.dsn, **changes), reactor, died=self.fail)
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        return server

    async def refused(self, server: ChatServer) -> str:
        """The line with which the start fails; nothing may be left of it."""
        with self.assertRaises(StartError) as caught:
            await server.start()
        await self.assertNothingOpen()
        line = str(caught.exception)
        self.assertNotIn("\n", line)
        return line

    async def assertNothingOpen(self) -> None:
        """No connection to the database, no node in it."""
        database = urlsplit(self.dsn).path.lstrip("/")
        open_ = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        # PostgreSQL notices in its own time that a client is gone.
        while execute(named(self.dsn, "postgres"), open_, database) != [(0,)]:
            await deferLater(reactor, 0.02)
        self.assertEqual(execute(self.dsn, "SELECT count(*) FROM node"), [(0,)])

    async def test_ready(self) -> None:
        """A load balancer may send clients as soon as the start is over."""
        server = self.server(listen=("tcp:0:interface=127.0.0.1", "tcp:0:interface=127.0.0.1"))
        await server.start()
        for port in server.ports:
            self.assertEqual(await get(port, "/readyz"), (200, "ok"))
            self.assertEqual(await get(port, "/healthz"), (200, "ok"))

    async def test_stop(self) -> None:
        """After a stop nothing is left, and the next start has the same name."""
        server = self.server()
        await server.start()
        [(name,)] = execute(self.dsn, "SELECT name FROM node")
        port = server.ports[0].getHost().port
        await server.stop()
        await self.assertNothingOpen()
        await server.stop()
        again = ChatServer(server.config, reactor, died=self.fail)
        self.addCleanup(lambda: Deferred.fromCoroutine(again.stop()))
        await again.start()
        self.assertEqual(execute(self.dsn, "SELECT name FROM node"), [(name,)])
        with self.assertRaises(ConnectionRefusedError):
            await SocketClient().connect(port)

    async def test_port_taken(self) -> None:
        """A port that is taken is one clear line; the other port is free again, and so are name and database."""
        taken = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        self.addCleanup(taken.stopListening)
        description = f"tcp:{taken.getHost().port}:interface=127.0.0.1"
        server = self.server(listen=("tcp:0:interface=127.0.0.1", description))
        self.assertIn(description, await self.refused(server))
        [open_port] = server.ports
        self.assertFalse(open_port.connected)
        await taken.stopListening()
        again = ChatServer(server.config, reactor, died=self.fail)
        await again.start()
        await again.stop()

    async def test_no_database(self) -> None:
        """A database that is not there is one clear line."""
        parts = urlsplit(self.dsn)
        server = self.server(database=f"postgresql://{parts.netloc}/no_such_database?{parts.query}")
        self.patch(server_module, "RENEW_EVERY", 1.0)
        self.assertIn("no_such_database", await self.refused(server))

    async def test_bad_key(self) -> None:
        """A key file that cannot be used is one clear line."""
        server = self.server()
        server.config.jwt_secret_files[0].write_text("short")
        self.assertIn("shop.key", await self.refused(server))

    async def test_data_in_use(self) -> None:
        """A second server on one data directory does not start, and the first goes on."""
        server = self.server()
        await server.start()
        second = ChatServer(server.config, reactor, died=self.fail)
        with self.assertRaises(StartError) as caught:
            await second.start()
        self.assertIn("in use", str(caught.exception))
        self.assertEqual(await get(server.ports[0], "/readyz"), (200, "ok"))

    async def test_bad_certificate(self) -> None:
        """A certificate that cannot be used is one clear line."""
        server = self.server(listen=("tcp:0:interface=127.0.0.1", "ssl:0:privateKey=/no/such/file"))
        self.assertIn("/no/such/file", await self.refused(server))


class StopTests(RoomCase):
    async def socket(self, server: ChatServer) -> SocketClient:
        """A client over a real connection."""
        client = await SocketClient().connect(server.ports[0].getHost().port)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.drop()))
        return client

    async def test_drains(self) -> None:
        """What was sent before the signal is stored and answered; then the connection closes with 1001."""
        server = await self.open()
        guest = await self.socket(server)
        await guest.request(21000, call_type=1, token=self.token(sub="al"), group_id=self.group)
        locked: Deferred[None] = Deferred()
        let_go: Deferred[None] = Deferred()

        async def hold(transaction: Transaction) -> None:
            await transaction.fetch("SELECT pg_advisory_xact_lock(1, %s)", (self.group,))
            locked.callback(None)
            await let_go

        holding = Deferred.fromCoroutine(self.server.pool.transaction(hold))
        await locked
        under_way = guest.request(22300, msg="last words")
        await guest.beat()
        stopping = Deferred.fromCoroutine(server.stop())
        while not server.dispatch.draining:
            await deferLater(reactor, 0.01)
        late = guest.request(22300, msg="too late")
        await guest.beat()
        self.assertEqual(server._readiness(), "shutting down")
        let_go.callback(None)
        await holding
        self.assertEqual((await under_way)["code"], 200)
        refused = await late
        self.assertEqual((refused["code"], refused["data"]), (-9993, {"retry_after_ms": 1000}))
        self.assertEqual((await guest.closed())[0], 1001)
        await stopping
        self.assertEqual(await self.sql("SELECT body FROM message"), [('"last words"',)])
        self.assertEqual(await self.sql("SELECT count(*) FROM session WHERE ended_at IS NULL"), [(0,)])

    async def test_new_connections(self) -> None:
        """While it drains, nobody new gets in."""
        server = await self.open()
        port = server.ports[0].getHost().port
        await server.stop()
        with self.assertRaises(ConnectionRefusedError):
            await SocketClient().connect(port)

    async def test_guests_keep_their_admin(self) -> None:
        """A restart is no end of a shift: the admin has 45 s to come back."""
        server = await self.open()
        ann = await self.admin(server=server)
        guest = await self.guest("al")
        await guest.ok(22300, msg="hello")
        await server.stop()
        self.assertEqual((await guest.ok(22000))["state"], "serving")
        back = await self.admin(ann.admin_id)
        self.assertEqual(back.welcome["guest_list"][str(guest.gid)]["state"], "serving")


class ReadAgainTests(RoomCase):
    async def login(self, key: str) -> int:
        client = self.connect()
        return await client.code(31000, call_type=3, token=self.token(admin_id=self.ann, key=key))

    async def test_keys(self) -> None:
        """HUP takes a new key; a file that cannot be used changes nothing, and old keys work on."""
        self.ann = await self.add_admin("Ann")
        [file] = self.server.config.jwt_secret_files
        old, new = file.read_text(), "the shop's next secret, also long enough"
        file.write_text("short")
        self.server.read_again()
        self.assertEqual((await self.login(old), await self.login("short" * 8)), (200, -31001))
        file.unlink()
        self.server.read_again()
        self.assertEqual(await self.login(old), 200)
        file.write_text(new)
        self.server.read_again()
        self.assertEqual((await self.login(old), await self.login(new)), (-31001, 200))


class ReadinessTests(OwnClusterTestCase):
    async def test_database_gone(self) -> None:
        """While the database is gone the node is alive and not ready; it comes back by itself."""
        server = ChatServer(configured(self, self.dsn), reactor, died=self.fail)
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        await server.start()
        self.cluster.stop()
        while (state := await get(server.ports[0], "/readyz"))[0] == 200:
            await deferLater(reactor, 0.02)
        self.assertEqual(state, (503, "no connection to the database"))
        self.assertEqual((await get(server.ports[0], "/healthz"))[0], 200)
        self.cluster.start()
        while (await get(server.ports[0], "/readyz"))[0] != 200:
            await deferLater(reactor, 0.02)


class EmbeddedTests(TestCase):
    async def test_embedded(self) -> None:
        """The default needs no database: it makes one, starts it again when it dies, and leaves none running."""
        data = scratch()
        self.addCleanup(shutil.rmtree, data, ignore_errors=True)
        server = ChatServer(configured(self, None, data=data), reactor, died=self.fail)
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        await server.start()
        [directory] = [path.parent for path in data.glob("*/PG_VERSION")]
        guest = await SocketClient().connect(server.ports[0].getHost().port)
        self.addCleanup(lambda: Deferred.fromCoroutine(guest.drop()))
        await server.pool.fetch("INSERT INTO service_group (name) VALUES ('shop')")
        guest.good(await guest.request(21000, call_type=1))
        guest.good(await guest.request(22300, msg="one", cmid="1"))
        os.kill(int(pid_file(directory)[0]), signal.SIGKILL)
        reply = await guest.request(22300, msg="two", cmid="2")
        while reply["code"] == -9995:
            reply = await guest.request(22300, msg="two", cmid="2")
        self.assertEqual(reply["data"]["message_info"]["seq"], 2)
        await guest.leave()
        await server.stop()
        self.assertEqual(list(servers_in(directory)), [])

    async def test_stop_while_it_comes_back(self) -> None:
        """A daemon that is stopped while its database is being started again ends in a clean way."""
        data = scratch()
        self.addCleanup(shutil.rmtree, data, ignore_errors=True)
        died: list[str] = []
        server = ChatServer(configured(self, None, data=data), reactor, died=died.append)
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        await server.start()
        [directory] = [path.parent for path in data.glob("*/PG_VERSION")]
        killed = int(pid_file(directory)[0])
        os.kill(killed, signal.SIGKILL)
        while not (there := pid_file(directory)) or int(there[0]) == killed:
            await deferLater(reactor, 0)
        # It takes its time to come up.
        os.kill(int(there[0]), signal.SIGSTOP)
        stopping = Deferred.fromCoroutine(server.stop())
        while server._undo:
            await deferLater(reactor, 0)
        os.kill(int(there[0]), signal.SIGCONT)
        await stopping
        await deferLater(reactor, 0)
        self.assertEqual((died, list(servers_in(directory))), ([], []))


class TwoNodesTests(RoomCase):
    """Two servers whose buses do not reach each other: what one does, the other finds in the database."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.other = await self.open()
        self.ann = await self.admin(server=self.other)
        self.al = await self.guest("al")

    async def test_message_to_the_other_node(self) -> None:
        """A guest's message reaches the admin on the other node, and the answer comes back."""
        sent = await self.al.ok(22300, msg="hello")
        self.assertEqual(sent["state"], "serving")
        self.ann.told.clear()
        await self.other.hub.compare()
        told = await self.ann.push(32401)
        self.assertHanded(told)
        self.assertEqual(told["recs"]["1"], sent["message_info"])
        sent = await self.al.ok(22300, msg="more")
        await self.other.hub.compare()
        data = await self.ann.push(32399)
        self.assertEqual(data, {"gid": self.al.gid, "message_info": sent["message_info"], "unread": 2})
        answer = await self.ann.ok(32300, gid=self.al.gid, msg="hi")
        await self.server.hub.compare()
        data = await self.al.push(22399)
        self.assertEqual(data, {"message_info": answer["message_info"], "unread": 1})

    async def test_nothing_twice(self) -> None:
        """A comparison that finds nothing tells nothing, and what was told is not told again."""
        await self.al.ok(22300, msg="hello")
        for _ in range(3):
            await self.other.hub.compare()
            await self.server.hub.compare()
        self.assertEqual(self.ann.numbers().count(32401), 1)
        self.assertEqual(self.al.numbers().count(22099), 1)

    async def test_own_tabs(self) -> None:
        """Another tab of the guest, on another node, shows what was written in this one."""
        tab = await self.guest("al", server=self.other)
        sent = await self.al.ok(22300, msg="hello")
        await self.other.hub.compare()
        self.assertEqual((await tab.push(22398))["message_info"], sent["message_info"])
        await tab.push(22099, state="serving")

    async def test_read_marks(self) -> None:
        """Read marks cross over too."""
        await self.al.ok(22300, msg="hello")
        await self.other.hub.compare()
        self.ann.told.clear()
        await self.ann.ok(32200, gid=self.al.gid, group_id=self.group)
        await self.server.hub.compare()
        self.assertEqual((await self.al.push(22299))["admin_read_seq"], 1)
        await self.ann.ok(32300, gid=self.al.gid, msg="hi")
        await self.al.ok(22200)
        await self.other.hub.compare()
        self.assertEqual((await self.ann.push(32299, guest_read_seq=2))["read_seq"], 1)

    async def test_no_marks_without_reading(self) -> None:
        """Messages and a new state cross over without read marks; where somebody read, these come with them."""
        await self.al.ok(22300, msg="hello")
        await self.other.hub.compare()
        await self.al.ok(22300, msg="more")
        await self.other.hub.compare()
        self.assertEqual([n for n in self.ann.numbers() if n < 33000], [32401, 32399])
        self.al.told.clear()
        await self.ann.ok(32300, gid=self.al.gid, msg="hi")
        await self.ann.ok(32060, gid=self.al.gid)
        await self.server.hub.compare()
        self.assertEqual(self.al.numbers(), [22399, 22099])
        await self.ann.ok(32300, gid=self.al.gid, msg="by the way")
        await self.ann.ok(32200, gid=self.al.gid, group_id=self.group)
        await self.server.hub.compare()
        self.assertEqual((await self.al.push(22299))["admin_read_seq"], 4)
        self.assertEqual(self.al.numbers(), [22399])

    async def test_transfer(self) -> None:
        """A transfer between nodes: the receiver gets 32401 and the note, the guest 22099, both devices 32402."""
        bob = await self.admin(name="Bob")
        await self.sql("UPDATE admin SET suspended = true WHERE id = %s", bob.admin_id)
        await self.al.ok(22300, msg="hello")
        await self.sql("UPDATE admin SET suspended = false")
        await self.other.hub.compare()
        phone = await self.admin(self.ann.admin_id)
        data = await self.ann.ok(32400, gid=self.al.gid, aix=bob.admin_id, note="tea")
        await self.ann.push(32402)
        await self.server.hub.compare()
        self.assertEqual((await bob.push(32401))["data"], data["data"])
        self.assertEqual((await phone.push(32402))["data"], data["data"])
        self.assertEqual((await self.al.push(22099, reason="transferred"))["admin"]["aix"], bob.admin_id)
        await self.al.ok(22300, msg="for Bob")
        await bob.push(32399)

    async def test_end(self) -> None:
        """A service that the guest ends leaves the desk on the other node."""
        await self.al.ok(22300, msg="hello")
        await self.other.hub.compare()
        await self.al.ok(22060)
        await self.other.hub.compare()
        await self.ann.push(32099, gid=self.al.gid, state="ended")

    async def test_many_missed(self) -> None:
        """Where more than 200 messages are missing, the client is told to fetch them."""
        await self.al.ok(22300, msg="hello")
        await self.other.hub.compare()
        await self.ann.push(32401)
        ids = [self.al.send(22300, msg=str(n)) for n in range(150)]
        for request_id in ids:
            await self.al.reply(request_id)
        self.al.state.tokens = 200.0
        ids = [self.al.send(22300, msg=str(n)) for n in range(150)]
        for request_id in ids:
            await self.al.reply(request_id)
        self.ann.told.clear()
        await self.other.hub.compare()
        self.assertEqual(await self.ann.push(39099), {})
        self.assertNotIn(32399, self.ann.numbers())
        await self.al.ok(22300, msg="one more")
        await self.other.hub.compare()
        self.assertEqual((await self.ann.push(32399))["message_info"]["seq"], 302)

    async def test_who_waits(self) -> None:
        """An admin who logs in on one node takes who waits on the other."""
        await self.ann.leave()
        waits = await self.guest()
        await waits.ok(22000)
        bob = await self.admin(name="Bob", server=self.other)
        self.assertIn(str(waits.gid), bob.welcome["guest_list"])
        await self.server.hub.compare()
        await waits.push(22099, state="serving")

    async def test_connections_of_both(self) -> None:
        """The 16 connections of one admin are counted over all nodes."""
        for _ in range(15):
            await self.admin(self.ann.admin_id)
        late = self.connect(self.other)
        late.send(31000, call_type=3, token=self.token(admin_id=self.ann.admin_id))
        self.assertEqual((await late.closing())[0], 4005)


class ToldByTheDatabaseTests(RoomCase):
    """What another process changes and tells by NOTIFY."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.ann = await self.admin()
        self.al = await self.guest("al")
        await self.al.ok(22300, msg="hello")

    async def change(self, statement: str, *params: Any) -> None:
        await self.sql(statement, *params)
        await self.sql("NOTIFY chatproto, '{}'")

    async def expelled(self, client: Client, code: int) -> None:
        self.assertEqual((await client.closing())[0], code)

    async def test_banned_admin(self) -> None:
        """A banned admin is closed with 4001; others stay."""
        bob = await self.admin(name="Bob")
        await self.change("UPDATE admin SET status = 'banned' WHERE id = %s", self.ann.admin_id)
        await self.expelled(self.ann, 4001)
        await bob.ok(33000)
        self.assertIsNone(bob.closed)

    async def test_banned_guest(self) -> None:
        """A banned guest is closed with 4001 in all tabs."""
        tab, other = await self.guest("al"), await self.guest("other")
        await self.change("UPDATE guest SET status = 'banned' WHERE id = %s", self.al.gid)
        await self.expelled(self.al, 4001)
        await self.expelled(tab, 4001)
        await other.ok(22200)
        self.assertIsNone(other.closed)

    async def test_banned_group(self) -> None:
        """A banned group closes with 4001 for everybody in it."""
        await self.change("UPDATE service_group SET status = 'banned'")
        await self.expelled(self.ann, 4001)
        await self.expelled(self.al, 4001)

    async def test_moved_admin(self) -> None:
        """An admin who was moved to another group is closed with 4000: log in again at once."""
        other = await self.add_group("second")
        await self.change("UPDATE admin SET group_id = %s", other)
        await self.expelled(self.ann, 4000)

    async def test_what_is_no_message_of_ours(self) -> None:
        """A notification that cannot be read does no harm."""
        for payload in ("", "no JSON", "5", "[]", '{"admins": 5}', '{"admins": ["x"]}'):
            await self.sql("SELECT pg_notify('chatproto', %s)", payload)
        await self.change("UPDATE guest SET status = 'banned'")
        await self.expelled(self.al, 4001)


class OperatorTests(RoomCase):
    """What the command line does: another process on the same database, whose events reach nobody."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        pool = self.server.pool
        self.operator = Operator(pool, Assignment(AssignmentStore(pool, grace=45_000)))
        self.second = await self.add_group("second")
        self.ann = await self.admin(capacity=0)
        self.bob = await self.admin(name="Bob", capacity=0)
        self.eve = await self.admin(name="Eve", group=self.second)
        self.al = await self.guest("al")
        await self.eve.push(33099, aix=self.eve.admin_id)

    async def waiting(self) -> None:
        """The guest waits, and all colleagues know."""
        await self.al.ok(22000)
        await self.al.push(22099, state="queued")
        for client in (self.ann, self.bob):
            await client.push(32099, gid=self.al.gid, state="queued")
            await client.push(32098, waiting=1)

    async def served(self) -> None:
        """Ann serves the guest, who wrote last."""
        await self.al.ok(22300, msg="hello")
        await self.ann.ok(32300, gid=self.al.gid, msg="hi")
        await self.al.ok(22300, msg="?")
        await self.al.push(22099, state="serving")
        await self.bob.push(32099, gid=self.al.gid, state="serving")
        await self.bob.push(32098, waiting=0)
        for client in (self.ann, self.bob, self.al):
            client.told.clear()

    async def assertNothingFor(self, client: Client) -> None:
        """An admin of another group saw nothing of it: only what is done there afterwards."""
        await client.ok(32500, status=1)
        await client.push(33099, aix=client.admin_id, status=2)
        self.assertEqual(client.numbers(), [])

    async def test_leaves_the_queue(self) -> None:
        """More capacity takes who waits: colleagues see the entry leave the queue, who gets the guest sees 32401."""
        old = await self.admin(self.bob.admin_id, v=1)
        await self.waiting()
        await self.operator.set_capacity(self.ann.admin_id, 1)
        self.assertHanded(await self.ann.push(32401, gid=self.al.gid))
        await self.al.push(22099, state="serving")
        entry = await self.bob.push(32099, gid=self.al.gid, state="serving")
        self.assertEqual(entry["admin_id"], self.ann.admin_id)
        await self.bob.push(32098, waiting=0)
        await self.bob.push(33099, aix=self.ann.admin_id, capacity=1, guest_count=1)
        await self.ann.push(33099, aix=self.ann.admin_id, capacity=1, guest_count=1)
        entries = [frame["data"]["state"] for frame in self.ann.told if frame["api_key"] == 32099]
        self.assertNotIn("serving", entries)
        self.assertEqual(old.numbers(), [])
        await self.assertNothingFor(self.eve)

    async def test_enters_the_queue(self) -> None:
        """Whose admin is banned waits again: colleagues see the entry in the queue."""
        await self.served()
        await self.operator.ban_admin(self.ann.admin_id)
        self.assertEqual((await self.ann.closing())[0], 4001)
        await self.al.push(22099, state="queued", reason="admin_lost")
        entry = await self.bob.push(32099, gid=self.al.gid, state="queued")
        self.assertIsNone(entry["admin_id"])
        await self.bob.push(32098, waiting=1)
        await self.bob.push(33099, aix=self.ann.admin_id, status=0, guest_count=0)
        await self.assertNothingFor(self.eve)

    async def test_banned_guest(self) -> None:
        """A banned guest hears why, is closed, and leaves the queue for all colleagues."""
        await self.waiting()
        await self.operator.ban_guest(self.al.gid)
        await self.al.push(22099, state="ended", reason="banned")
        self.assertEqual((await self.al.closing())[0], 4001)
        for client in (self.ann, self.bob):
            await client.push(32099, gid=self.al.gid, state="ended")
            await client.push(32098, waiting=0)
        await self.assertNothingFor(self.eve)

    async def test_moved_admin(self) -> None:
        """Both groups see an admin move, a third one does not; who was answered keeps the admin, and sees who it is."""
        fay = await self.admin(name="Fay", group=await self.add_group("third"))
        await fay.push(33099, aix=fay.admin_id)
        await self.served()
        await self.ann.ok(32300, gid=self.al.gid, msg="one moment")
        await self.operator.move_admin(self.ann.admin_id, self.second)
        self.assertEqual((await self.ann.closing())[0], 4000)
        for client in (self.bob, self.eve):
            await client.push(33099, aix=self.ann.admin_id, status=0, group_id=self.second)
        standing = await self.al.ok(22000)
        expected = {"aix": self.ann.admin_id, "name": "Ann", "avatar": "https://shop.example/Ann.png"}
        self.assertEqual((standing["state"], standing["admin"]), ("serving", expected))
        self.assertEqual((await self.guest("al")).welcome["admin"], expected)
        self.assertEqual(self.al.numbers(), [22399])
        self.assertEqual([f for f in self.eve.told if f["api_key"] != 33099], [])
        await self.assertNothingFor(fay)


class GivenUpTests(RoomCase):
    async def test_comes_back(self) -> None:
        """A node that the others gave up comes back with its connections, and tells them that news may be lost."""
        other = await self.open()
        ann, guest = await self.admin(), await self.guest("al")
        await self.sql("UPDATE node SET lease_until = 0 WHERE id = %s", self.server.node.id)
        other.node._steady_since = -100.0
        other.announce(await other.node.look_after_cluster())
        self.assertEqual(await self.sql("SELECT count(*) FROM session WHERE ended_at IS NULL"), [(0,)])
        await self.server._renew()
        self.assertEqual(await self.sql("SELECT count(*) FROM session WHERE ended_at IS NULL"), [(2,)])
        self.assertEqual(await ann.push(39099), {})
        self.assertEqual(await guest.push(29099), {})
        await guest.ok(22300, msg="still here")
        await ann.push(32399)

    async def test_waits_meanwhile(self) -> None:
        """A node that may have been given up does nothing until it knows; then it goes on."""
        guest = await self.guest("al")
        self.server.node._renewed_at -= 30
        self.assertEqual(self.server._readiness(), "the lease of this node is over")
        request_id = guest.send(22000)
        self.assertEqual((guest.state.running, len(guest.state.waiting)), (0, 1))
        await self.server._renew()
        self.assertEqual((await guest.reply(request_id))["code"], 200)
        self.assertIs(self.server._readiness(), True)
