"""Every limit at its edge, over real sockets: what is allowed goes on, what is too much is told why."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

import psycopg2
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from chatproto.connection.admission import HTTP_RESERVE
from tests.integration.case import ROOMY, DaemonTestCase, all_of
from tests.integration.client import Client, ConnectionGone, Frame, Refused
from tests.integration.daemon import eventually, token
from tests.integration.raw import RawClient, frame, handshake, resident

T = TypeVar("T")

SHOP = "https://desk.example"
FRAGMENTS, PER_ADDRESS, PER_IDENTITY, NEWCOMERS, RATE, BURST = 25, 3, 2, 3, 20, 30
TIGHT: tuple[str, ...] = (
    *("--trusted-proxy", "127.0.0.1", "--origin", SHOP),
    *("--max-fragments", str(FRAGMENTS), "--max-connections-per-address", str(PER_ADDRESS)),
    *("--max-connections-per-identity", str(PER_IDENTITY), "--anonymous-per-minute", str(NEWCOMERS)),
    *("--rate", str(RATE), "--burst", str(BURST)),
)
MEGABYTE = 1 << 20
SENDERS = 4
"""Who send large messages and do not read."""

_addresses = count(1)


class AbuseTestCase(DaemonTestCase):
    """Behind a trusted proxy, so that each test has addresses of its own."""

    OPTIONS: tuple[str, ...] = TIGHT

    def address(self) -> str:
        """One that nobody has had."""
        number = next(_addresses)
        return f"203.0.{number // 250}.{number % 250 + 1}"

    async def at(self, address: str, name: str = "client") -> Client:
        return await self.client(name).connect(self.daemon.port, headers={"X-Forwarded-For": address})

    async def anonymous(self, client: Client) -> Frame:
        return await client.request(21000, call_type=1, group_id=self.group_id)

    def raw(self, **fields: Any) -> RawClient:
        client = RawClient(self.daemon.port, **fields)
        self.addCleanup(client.close)
        return client

    async def thread(self, work: Callable[..., T], *arguments: Any, **fields: Any) -> T:
        """Something that blocks."""
        result: T = await deferToThread(work, *arguments, **fields)
        return result


class FrameTests(AbuseTestCase):
    async def test_frame_size(self) -> None:
        """64 KiB are taken, one byte more is closed with 1009."""
        client = await self.at(self.address())
        around = len(json.dumps({"call_type": 0, "pad": ""}))
        await client.beat(pad="x" * (65536 - around))
        client.send(json.dumps({"call_type": 0, "pad": "x" * (65537 - around)}))
        self.assertEqual((await client.closed())[0], 1009)

    async def test_size_over_several_fragments(self) -> None:
        """Many small fragments do not get past the limit of a frame's size."""
        raw = self.raw()
        await self.thread(raw.open, {"X-Forwarded-For": self.address()})
        part = b"x" * 8192
        raw.socket.sendall(frame(part, 0x01) + frame(part, 0x00) * 8)
        self.assertEqual(await self.thread(raw.close_code), 1009)

    async def test_fragments(self) -> None:
        """As many fragments as allowed make one message; with one more, empty ones too, it is 1009."""
        raw = self.raw()
        await self.thread(raw.open, {"X-Forwarded-For": self.address()})
        raw.socket.sendall(frame(b'{"call_type"', 0x01) + frame(b"", 0x00) * (FRAGMENTS - 2) + frame(b":0}", 0x80))
        opcode, payload = await self.thread(raw.next)
        self.assertEqual((opcode, json.loads(payload)["code"]), (1, 200))
        raw.socket.sendall(frame(b'{"call_type"', 0x01) + frame(b"", 0x00) * (FRAGMENTS - 1) + frame(b":0}", 0x80))
        self.assertEqual(await self.thread(raw.close_code), 1009)

    async def test_violations_of_websocket(self) -> None:
        """What is no WebSocket gets the close code of RFC 6455."""
        for data, code in (
            (frame(b'{"call_type":0}', masked=False), 1002),
            (frame(b"\xff\xfe"), 1007),
            (frame(b"x", 0x83), 1002),
            (frame(b"x" * 126, 0x89), 1002),
            (frame(b"x", 0x80), 1002),
        ):
            raw = self.raw()
            await self.thread(raw.open, {"X-Forwarded-For": self.address()})
            raw.socket.sendall(data)
            self.assertEqual(await self.thread(raw.close_code), code, data[:10])

    async def test_malformed_frames(self) -> None:
        """Whatever text comes is answered -9998, and the connection goes on."""
        client = await self.at(self.address())
        deep = '{"api_key":32000,"x":' + "[" * 32 + "]" * 32 + "}"
        bad: tuple[tuple[str | bytes, int], ...] = (
            ("", 0),
            ("rubbish", 0),
            ("[]", 0),
            ('"text"', 0),
            ("null", 0),
            ("{}", 0),
            ('{"api_key":"x"}', 0),
            ('{"api_key":1.0}', 0),
            ('{"api_key":true}', 0),
            ('{"api_key":32000,"x":NaN}', 0),
            ('{"api_key":32000,"x":"\\ud800"}', 32000),
            ('{"api_key":32000,"x":1}}', 0),
            ('{"api_key":32000,"x":"\\u0000"}', 32000),
            (deep, 32000),
            ('{"api_key":32000,"request_id":1.5}', 32000),
            ('{"api_key":32000,"request_id":"' + "x" * 65 + '"}', 32000),
        )
        for payload, api_key in bad:
            reply = await client.ask(payload, api_key)
            self.assertEqual((reply["code"], reply["status"]), (-9998, "Error"), payload)
        reply = await client.ask(b'{"api_key":32000}', 0, binary=True)
        self.assertEqual(reply["code"], -9998)
        self.assertEqual(await client.code(32000), -9999)
        await client.beat()


class HandshakeTests(AbuseTestCase):
    async def answer(self, request: bytes) -> str:
        """The status line that a request gets; "" for none."""
        raw = self.raw()
        raw.socket.sendall(request)
        head = await self.thread(raw.head)
        return head.partition("\r\n")[0]

    def padded(self, size: int) -> bytes:
        """A handshake whose header has so many bytes."""
        fields = {"X-Forwarded-For": self.address(), "X-Pad": ""}
        missing = size - (len(handshake(fields)) - 4)
        return handshake({**fields, "X-Pad": "x" * missing})

    async def test_header_size(self) -> None:
        """16 KiB of header are read, one byte more is cut off without an answer, finished or not."""
        self.assertIn("101", await self.answer(self.padded(16384)))
        self.assertEqual(await self.answer(self.padded(16385)), "")
        self.assertEqual(await self.answer(b"GET / HTTP/1.1\r\nX-Pad: " + b"x" * 16384), "")

    async def test_origins(self) -> None:
        """No origin, our own and a listed one may connect; any other gets 403."""
        port = self.daemon.port
        for origin in (None, f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}", SHOP, SHOP.upper()):
            headers = {"X-Forwarded-For": self.address(), "Host": f"127.0.0.1:{port}"}
            if origin is not None:
                headers["Origin"] = origin
            self.assertIn("101", await self.answer(handshake(headers)), origin)
        for origin in (
            "https://evil.example",
            SHOP + ".evil.example",
            SHOP + ":444",
            "http://desk.example",
            "null",
            "x",
        ):
            headers = {"X-Forwarded-For": self.address(), "Host": f"127.0.0.1:{port}", "Origin": origin}
            self.assertIn("403", await self.answer(handshake(headers)), origin)

    async def test_connections_of_one_address(self) -> None:
        """One more than allowed is refused with 429; another address is not; once one has left there is room."""
        address = self.address()
        clients = [await self.at(address) for _ in range(PER_ADDRESS)]
        refused = await self.assertFailure(Deferred.fromCoroutine(self.at(address)), Refused)
        self.assertIn("429", str(refused))
        await self.at(self.address())
        await clients[0].leave()
        await eventually(lambda: self.admitted(address), "room for one more")
        for client in clients[1:]:
            await client.beat()

    async def admitted(self, address: str) -> bool:
        try:
            await self.at(address)
        except Refused:
            return False
        return True

    async def test_whose_address_counts(self) -> None:
        """Behind a trusted proxy it is the right-most address that is no proxy's: what the client claims is nothing."""
        address = self.address()
        for n in range(PER_ADDRESS):
            await self.at(f"198.51.100.{n}, {address}")
        refused = await self.assertFailure(Deferred.fromCoroutine(self.at(f"198.51.100.9, {address}")), Refused)
        self.assertIn("429", str(refused))
        client = await self.at(address=f"{self.address()}, 127.0.0.1")
        await client.leave()
        await self.daemon.logged(r"from 203\.0\.\d+\.\d+ ended: 1000")


class RequestTests(AbuseTestCase):
    """Plain HTTP on the same port."""

    async def answer(self, request: bytes) -> str:
        raw = self.raw()
        raw.socket.sendall(request)
        head = await self.thread(raw.head)
        return head.partition("\r\n")[0]

    def post(self, body: bytes, *fields: str) -> bytes:
        lines = ["POST /healthz HTTP/1.1", "Host: 127.0.0.1", *fields, "", ""]
        return "\r\n".join(lines).encode() + body

    async def test_body_size(self) -> None:
        """4 KiB of body are read, of one more byte nothing; a body whose length is not told is not either."""
        self.assertIn("405", await self.answer(self.post(b"x" * 4096, "Content-Length: 4096")))
        self.assertIn("413", await self.answer(self.post(b"x" * 4096, "Content-Length: 4097")))
        self.assertIn("411", await self.answer(self.post(b"", "Transfer-Encoding: chunked")))
        self.assertIn("400", await self.answer(self.post(b"", "Content-Length: " + "9" * 4400)))

    async def test_a_body_without_end(self) -> None:
        """Whoever goes on sending all the same is cut off, and others are served."""
        other = await self.at(self.address())
        raw = self.raw()
        part = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'
        head = self.post(b"", "Content-Type: multipart/form-data; boundary=B", "Content-Length: 16777216")
        raw.socket.sendall(head)
        with self.assertRaises(OSError):
            await self.thread(raw.stuff, part, 16 * MEGABYTE)
        await other.beat()

    async def test_handshake_on_a_kept_connection(self) -> None:
        """A proxy's connection, used for pages before, becomes a WebSocket, however the network cuts the handshake."""
        raw = self.raw()
        raw.socket.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /")
        self.assertIn("200", await self.thread(raw.head))
        self.assertEqual(await self.thread(raw.take, 3), b"ok\n")
        raw.socket.sendall(handshake({"X-Forwarded-For": self.address()}).removeprefix(b"GET /"))
        self.assertIn("101", await self.thread(raw.head))
        reply = await self.thread(raw.ask, call_type=0)
        self.assertEqual(reply["code"], 200)


class IdentityTests(AbuseTestCase):
    async def test_connections_of_one_admin(self) -> None:
        """The login of one connection too many is closed with 4005, without a reply; the others stay."""
        admin_id = self.daemon.add_admin(self.group_id, "Alice")

        login = {"call_type": 3, "token": token(admin_id=admin_id)}
        clients = [await self.at(self.address(), "admin") for _ in range(PER_IDENTITY)]
        for client in clients:
            self.assertEqual(await client.code(31000, **login), 200)
        refused = await self.at(self.address(), "one too many")
        await self.assertFailure(refused.request(31000, **login), ConnectionGone)
        self.assertEqual(((await refused.closed())[0], refused.frames), (4005, []))
        for client in clients:
            self.assertEqual(await client.code(33000), 200)

    async def test_connections_of_one_guest(self) -> None:
        """A guest has as many tabs as allowed, and one more after one is closed."""
        first = await self.at(self.address(), "first")
        data = first.good(await self.anonymous(first))

        async def tab() -> bool:
            client = await self.at(self.address(), "tab")
            login = client.request(21000, call_type=1, guest_token=data["guest_token"], group_id=self.group_id)
            try:
                client.good(await login)
            except ConnectionGone:
                self.assertEqual((client.end or (0, ""))[0], 4005)
                return False
            return True

        self.assertTrue(await tab())
        self.assertFalse(await tab())
        await first.leave()
        await eventually(tab, "room for one more tab")

    async def test_new_anonymous_guests(self) -> None:
        """One address makes so many new guests a minute; who is known comes back all the same, others are free."""
        address = self.address()
        known = ""
        for _ in range(NEWCOMERS):
            client = await self.at(address)
            known = client.good(await self.anonymous(client))["guest_token"]
            await client.leave()
        await eventually(lambda: self.is_gone(address), "room for one more connection")
        client = await self.at(address)
        reply = await self.anonymous(client)
        self.assertEqual(reply["code"], -9997)
        self.assertTrue(0 < reply["data"]["retry_after_ms"] <= 60_000, reply)
        back = await client.request(21000, call_type=1, guest_token=known, group_id=self.group_id)
        self.assertEqual(back["code"], 200)
        other = await self.at(self.address())
        self.assertEqual((await self.anonymous(other))["code"], 200)

    async def is_gone(self, address: str) -> bool:
        """Whether the server knows that the earlier connections of an address have ended."""
        try:
            client = await self.at(address)
        except Refused:
            return False
        await client.leave()
        return True

    async def test_rate(self) -> None:
        """More than the burst at once gets -9997 and how long to wait; the connection stays, and so do its messages."""
        self.daemon.add_admin(self.group_id, "Alice")
        client = await self.at(self.address())
        client.good(await self.anonymous(client))
        replies = await all_of(*(client.request(22300, msg=f"{n}") for n in range(2 * BURST)))
        codes = [reply["code"] for reply in replies]
        self.assertEqual(set(codes), {200, -9997})
        self.assertEqual(codes[: BURST - 1], [200] * (BURST - 1))
        for reply in replies:
            if reply["code"] == -9997:
                self.assertTrue(0 < reply["data"]["retry_after_ms"] <= 1000 // RATE + 1, reply)

        async def allowed() -> bool:
            return await client.code(22200) == 200

        await eventually(allowed, "a command that is allowed")
        history = await client.request(22100, page_size=100)
        while history["code"] == -9997:
            history = await client.request(22100, page_size=100)
        self.assertEqual(history["data"]["last_seq"], codes.count(200))

    async def test_large_ones_count_more(self) -> None:
        """Each 4 KiB of a frame count as one more: less than the burst of large ones is refused."""
        client = await self.at(self.address())
        client.good(await self.anonymous(client))
        pad = "x" * 16384
        replies = await all_of(*(client.request(22200, pad=pad) for _ in range(BURST // 5 + 1)))
        self.assertEqual([reply["code"] for reply in replies], [200] * (BURST // 5) + [-9997])

    async def test_floods(self) -> None:
        """Past the rate a flood stays with its sender, whatever it is made of: it is not even read."""
        for kind in (
            frame(b"{}"),
            frame(b'{"call_type":0}'),
            frame(b"", 0x82),
            frame(b"", 0x89),
            frame(b"", 0x8A),
            frame(b"x", 0x01) + frame(b"", 0x80),
        ):
            raw = self.raw()
            await self.thread(raw.open, {"X-Forwarded-For": self.address()})
            taken = await self.thread(raw.stuff, kind * 1000, 64 * MEGABYTE)
            self.assertLess(taken, 16 * MEGABYTE, kind)
            raw.close()
        other = await self.at(self.address())
        await other.beat()


class DoorTests(AbuseTestCase):
    """A small house: few connections, little patience, no proxy."""

    MOST = 5
    OPTIONS = ("--max-connections", str(MOST), "--login-timeout", "1", "--anonymous-per-minute", "1000")

    async def test_login_time(self) -> None:
        """Who has not logged in in time is closed with 4004, heartbeats or not; who has stays."""
        silent, beating = await self.at("198.51.100.1"), await self.at("198.51.100.1")
        guest = await self.at("198.51.100.1")
        guest.good(await self.anonymous(guest))
        await beating.beat()
        for client in (silent, beating):
            self.assertEqual((await client.closed())[0], 4004)
        await guest.beat()
        self.assertIsNone(guest.end)

    async def test_no_handshake_in_time(self) -> None:
        """Who only opens a TCP connection, or sends half a header, is cut off."""
        for data in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n"):
            raw = self.raw()
            raw.socket.sendall(data)
            self.assertEqual(await self.thread(raw.head), "")

    async def test_slow_requests(self) -> None:
        """A kept connection that is not used again, or a body that comes in drops, ends in as short a time."""
        page = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        for drops in (b"", b"x" * 1000, b"\r\n" * 500):
            raw = self.raw()
            raw.socket.sendall(page)
            self.assertIn("200", await self.thread(raw.head))
            if drops.startswith(b"x"):
                raw.socket.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n")
            self.assertTrue(await self.thread(raw.drip, drops))

    async def test_connections_in_all(self) -> None:
        """A full server answers 503 to WebSocket, and still says that it is healthy; who leaves makes room."""
        await eventually(self.empty, "an empty house")
        guests = [await self.guest(f"guest {n}") for n in range(self.MOST)]
        refused = await self.assertFailure(Deferred.fromCoroutine(self.at("x")), Refused)
        self.assertIn("503", str(refused))
        self.assertEqual((await self.daemon.http("/healthz"))[0], 200)
        await guests[0].leave()

        async def room() -> bool:
            try:
                await self.guest("next")
            except Refused:
                return False
            return True

        await eventually(room, "room for one more")
        await guests[1].beat()

    async def test_health_under_a_flood(self) -> None:
        """A full server says that it is healthy also while very many connect who say nothing, or only begin to."""
        await eventually(self.empty, "an empty house")
        guests = [await self.guest(f"guest {n}") for n in range(self.MOST)]
        for begun in (b"", b"GET /healthz HTTP/1.1\r\n"):
            for _ in range(HTTP_RESERVE + 10):
                self.raw().socket.sendall(begun)
            self.assertEqual((await self.daemon.http("/healthz"))[0], 200)
        for guest in guests:
            await guest.beat()

    async def empty(self) -> bool:
        """Whether the connections of the tests before have all gone."""
        clients = []
        try:
            for _ in range(self.MOST):
                clients.append(await self.guest("probe"))
        except Refused:
            return False
        finally:
            for client in clients:
                await client.leave()
        return True

    async def test_a_forwarded_address_without_a_trusted_proxy(self) -> None:
        """X-Forwarded-For of anybody else means nothing: the log has the peer's own address."""
        since = len(self.daemon.lines)
        client = await self.at("203.0.113.77")
        await client.leave()
        await self.daemon.until(lambda: any("ended: 1000" in line for line in self.daemon.lines[since:]), "end")
        log = "".join(self.daemon.lines[since:])
        self.assertNotIn("203.0.113.77", log)
        self.assertIn("from 127.0.0.1 ended: 1000", log)


class SlowTests(AbuseTestCase):
    """Who does not read, or asks for more than can be done, harms nobody else."""

    OPTIONS = (
        *ROOMY,
        *("--rate", "1000000", "--burst", "1000000", "--max-unsent", "512K", "--pause-unsent", "128K"),
    )

    async def slow_guest(self) -> tuple[RawClient, Frame]:
        """One whose kernel keeps little of what is not read."""
        raw = self.raw(room=4096)
        await self.thread(raw.open)
        login = await self.thread(raw.ask, api_key=21000, call_type=1, group_id=self.group_id)
        raw.send(api_key=22000)
        return raw, login["data"]

    async def test_a_guest_who_never_reads(self) -> None:
        """Pushes past the limit close with 4002; the memory stays bounded, and others are served meanwhile."""
        admin = await self.admin(self.daemon.add_admin(self.group_id, "Alice"), "alice")
        _, slow = await self.slow_guest()
        await admin.push(32401)
        other = await self.guest("other")
        await other.good_request(22000)
        before = resident(self.daemon.pid)
        body = "x" * 16000
        # What the kernel keeps for a socket is a few megabytes.
        for _ in range(16 * MEGABYTE // (20 * len(body))):
            await all_of(*(admin.request(32300, gid=slow["gid"], msg=body, file_type=6) for _ in range(20)))
            await admin.good_request(32300, gid=other.gid, msg="are you still served?")
            await other.push(22399)
        await self.daemon.logged(f"of guest:{self.group_id}:{slow['gid']} from 127.0.0.1 ended: 4002")
        self.assertLess(resident(self.daemon.pid) - before, 32 * MEGABYTE)
        await admin.good_request(32300, gid=slow["gid"], msg="it is stored all the same")

    async def test_a_guest_who_asks_and_never_reads(self) -> None:
        """Replies that nobody reads stop the reading: the server holds little, whatever is asked for."""
        self.daemon.add_admin(self.group_id, "Alice")
        raw, login = await self.slow_guest()
        writer = await self.guest("writer", guest_token=login["guest_token"])
        await all_of(*(writer.request(22300, msg="x" * 16000, file_type=6) for _ in range(40)))
        before = resident(self.daemon.pid)
        question = frame(json.dumps({"api_key": 22100, "page_size": 40, "pad": "x" * 1000}).encode())
        # Each answer has 640 KB: all of them would be 64 GB.
        taken = await self.thread(raw.stuff, question, 100_000 * len(question))
        self.assertLess(taken, 16 * MEGABYTE)
        self.assertLess(resident(self.daemon.pid) - before, 48 * MEGABYTE)
        await writer.good_request(22100)

    async def test_a_guest_who_writes_a_lot(self) -> None:
        """However much comes at once, an admin who reads gets all of it and stays."""
        admin = await self.admin(self.daemon.add_admin(self.group_id, "Alice"), "alice")
        guest = await self.guest()
        body = "x" * 16000
        # Six times max_unsent.
        await all_of(*(guest.request(22300, msg=body, file_type=6) for _ in range(200)))
        for _ in range(200):
            await admin.push(32399)
        await admin.good_request(33000)
        self.assertIsNone(admin.end)

    async def test_commands_that_wait(self) -> None:
        """While one command is slow, 64 and many more wait and are answered in order; a heartbeat does not wait."""
        guest = await self.guest()
        with self.locked_group():
            slow = guest.request(22000)
            waiting = [guest.request(22100, before_seq=n + 1) for n in range(64)]
            await guest.beat()
            self.assertEqual(len(guest.frames), 2)
            more = [guest.request(22100, before_seq=n + 1) for n in range(500)]
        replies = await all_of(slow, *waiting, *more)
        self.assertEqual({reply["code"] for reply in replies}, {200})

    async def test_a_flood_of_commands_that_wait(self) -> None:
        """Past 64 commands that wait, the server reads no more: the flood stays with the client."""
        raw = self.raw()
        await self.thread(raw.open)
        await self.thread(raw.ask, api_key=21000, call_type=1, group_id=self.group_id)
        before = resident(self.daemon.pid)
        with self.locked_group():
            raw.send(api_key=22000)
            flood = frame(json.dumps({"api_key": 22100, "page_size": 1, "pad": "x" * 30000}).encode())
            taken = await self.thread(raw.stuff, flood, 256 * MEGABYTE)
            self.assertLess(taken, 32 * MEGABYTE)
            self.assertLess(resident(self.daemon.pid) - before, 48 * MEGABYTE)
            other = await self.guest("other")
            await other.good_request(22100)

    def locked_group(self) -> LockedGroup:
        return LockedGroup(self.daemon.dsn, self.group_id)


class SenderTests(AbuseTestCase):
    """Who sends large messages as fast as a rate allows that the database keeps up with, and never reads."""

    OPTIONS = (
        *ROOMY,
        *("--rate", "2000", "--burst", "400", "--max-unsent", "512K", "--pause-unsent", "64K"),
    )

    async def send_all(self) -> None:
        """Log in, and send until nothing is taken for a second."""
        raw = self.raw(room=4096)
        await self.thread(raw.open)
        await self.thread(raw.ask, api_key=21000, call_type=1, group_id=self.group_id)
        raw.send(api_key=22000)
        message = frame(json.dumps({"api_key": 22300, "msg": "x" * 16000, "file_type": 6}).encode())
        self.assertLess(await self.thread(raw.stuff, message, 256 * MEGABYTE), 64 * MEGABYTE)

    async def test_guests_who_send_and_never_read(self) -> None:
        """Replies that nobody reads keep further commands from starting: neither messages nor answers pile up."""
        before = resident(self.daemon.pid)
        for _ in range(SENDERS):
            await self.send_all()
        # Nearly all of it is what messages under way take for a moment, the more the slower the database is, and the
        # process keeps for the next ones. Batches without a bound of their text took 65 MB.
        self.assertLess(resident(self.daemon.pid) - before, 48 * MEGABYTE)
        await (await self.guest("another")).good_request(22100)


class LockedGroup:
    """Holds what every change of assignment in a group waits for."""

    def __init__(self, dsn: str, group_id: int) -> None:
        self._connection = psycopg2.connect(dsn)
        self._group_id = group_id

    def __enter__(self) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(1, %s)", (self._group_id,))

    def __exit__(self, *_: object) -> None:
        self._connection.close()
