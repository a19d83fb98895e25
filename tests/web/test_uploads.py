"""Files over HTTP, on real sockets: a daemon, and clients as they come, honest and not."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import stat
import threading
import time
from http.client import HTTPConnection, HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from PIL import Image
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.database import fresh_database, scratch
from tests.files import bucket, samples
from tests.integration.case import ROOMY, ClientsTestCase, DaemonTestCase
from tests.integration.daemon import Daemon, eventually, token
from tests.integration.raw import RawClient, resident

PATIENCE = 20.0
MIB = 1 << 20


class Answer(NamedTuple):
    """:ivar fields: with lower-case names."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def said(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


def ask(port: int, method: str, path: str, body: Any = None, **fields: str) -> Answer:
    """One request on a connection of its own; blocks."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, path, body, named)
        return read(connection.getresponse())
    finally:
        connection.close()


def read(response: HTTPResponse) -> Answer:
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def header(size: int, given: str, *fields: str) -> bytes:
    """The header of an upload."""
    lines = ["POST /files HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {given}", f"Content-Length: {size}"]
    return "\r\n".join([*lines, *fields, "", ""]).encode()


class FilesCase(ClientsTestCase):
    """What tests of a daemon with files have in common."""

    daemon: Daemon

    async def post(self, content: Any, given: str, name: str = "", **fields: str) -> Answer:
        named = {"X_File_Name": quote(name)} if name else {}
        sent = {"Authorization": f"Bearer {given}", **named, **fields}
        return await deferToThread(ask, self.daemon.port, "POST", "/files", content, **sent)

    async def get(self, url: str, method: str = "GET", **fields: str) -> Answer:
        return await deferToThread(ask, self.daemon.port, method, urlsplit(url).path, None, **fields)

    async def stored(self, content: Any, given: str, name: str = "", **fields: str) -> dict[str, Any]:
        answer = await self.post(content, given, name, **fields)
        self.assertEqual(answer.status, 201, answer.body)
        return answer.said

    async def anonymous(self) -> str:
        """The token of a new anonymous guest."""
        given: str = (await self.guest()).data["guest_token"]
        return given

    def on_disk(self, folder: str = "files") -> list[str]:
        return sorted(path.name for path in (self.daemon.data / folder).rglob("*") if path.is_file())

    def arriving(self) -> list[str]:
        return self.on_disk("files/arriving")

    async def nothing_arrives(self) -> None:
        async def none() -> bool:
            rows = self.daemon.sql("SELECT name FROM upload WHERE media_type IS NULL")
            return not self.arriving() and not rows

        await eventually(none, "an end of what arrives")


class SharedTests(FilesCase, DaemonTestCase):
    """On a daemon with the defaults, but for the limits that all tests together would meet."""

    OPTIONS = (*ROOMY, "--uploads-per-minute", "1000")

    async def test_there_and_back(self) -> None:
        """A guest sends a photo; whoever has the address sees it as it was, and a small one without its secrets."""
        content = samples.photo((1600, 900), 6)
        said = await self.stored(content, await self.anonymous(), "Ünser Hund.jpg", Content_Type="image/jpeg")
        url = f"http://127.0.0.1:{self.daemon.port}/files/"
        self.assertRegex(said["url"], rf"^{re.escape(url)}[0-9a-f]{{40}}$")
        self.assertEqual(
            said,
            {
                "url": said["url"],
                "thumb": f"{said['url']}/thumb",
                "width": 900,
                "height": 1600,
                "name": "Ünser Hund.jpg",
                "size": len(content),
                "kind": "image",
            },
        )
        answer = await self.get(said["url"])
        self.assertEqual((answer.status, answer.body), (200, content))
        self.assertEqual(answer.fields["content-type"], "image/jpeg")
        self.assertIn("filename*=UTF-8''%C3%9Cnser%20Hund.jpg", answer.fields["content-disposition"])
        small = await self.get(said["thumb"])
        self.assertEqual((small.status, small.fields["content-type"]), (200, "image/jpeg"))
        with Image.open(io.BytesIO(small.body)) as image:
            self.assertEqual(image.size, (360, 640))
        self.assertNotIn(b"SecretCam", small.body)

    async def test_in_a_message(self) -> None:
        """What the answer says is what a message of that kind says; the other side gets it word by word."""
        group = self.group_id
        admin = await self.admin(self.daemon.add_admin(group, "Ann"))
        guest = await self.guest()
        said = await self.stored(samples.photo(), guest.data["guest_token"])
        body = {name: said[name] for name in ("url", "width", "height", "thumb")}
        await guest.request(22000)
        await guest.request(22300, msg=body, file_type=1)
        push = await admin.push(32399)
        self.assertEqual(push["message_info"]["msg"], body)

    async def test_kinds(self) -> None:
        """Images, sounds and videos are shown in place; all else is downloaded, whatever it is called and declared."""
        given = await self.anonymous()
        for content, name, declared, kind, shown in (
            (samples.image("PNG"), "a.png", "image/png", "image", "image/png"),
            (samples.image("WEBP"), "a.html", "text/html", "image", "image/webp"),
            (samples.WEBM, "a.webm", "audio/webm", "voice", "audio/webm"),
            (samples.OPUS, "", "", "voice", "audio/ogg"),
            (samples.MP4, "a.mp4", "video/mp4", "video", "video/mp4"),
            (samples.SVG, "a.png", "image/png", "file", None),
            (samples.HTML, "a.jpg", "image/jpeg", "file", None),
            (samples.GIF_AND_SCRIPT, "a.gif", "image/gif", "file", None),
            (samples.GIF_AND_SCRIPT, "a.js", "text/javascript", "file", None),
            (samples.PDF, "a.pdf", "application/pdf", "file", None),
            (b"<script>alert(1)</script>", "a.webm", "video/webm", "file", None),
        ):
            said = await self.stored(content, given, name, Content_Type=declared)
            self.assertEqual(said["kind"], kind, name)
            answer = await self.get(said["url"])
            self.assertEqual(answer.body, content)
            self.assertEqual(answer.fields["content-type"], shown or "application/octet-stream")
            self.assertEqual(answer.fields["content-disposition"].split(";")[0], "inline" if shown else "attachment")

    async def test_polyglots(self) -> None:
        """An image that is a page or a script besides is served as an image, and nothing in it may run."""
        for tail in (samples.HTML, samples.SVG, b"*/alert(1)//", samples.ZIP):
            said = await self.stored(samples.image("PNG") + tail, await self.anonymous(), "a.html")
            answer = await self.get(said["url"])
            self.assertEqual(answer.fields["content-type"], "image/png")
            self.assertEqual(answer.fields["x-content-type-options"], "nosniff")
            self.assertIn("sandbox", answer.fields["content-security-policy"])
            self.assertNotIn("script", answer.fields["content-security-policy"])

    async def test_fields(self) -> None:
        """A file never changes, may be embedded by any page, and is not fetched again."""
        said = await self.stored(samples.image("PNG"), await self.anonymous())
        answer = await self.get(said["url"])
        self.assertEqual(answer.fields["cross-origin-resource-policy"], "cross-origin")
        self.assertEqual(answer.fields["cache-control"], "private, max-age=31536000, immutable")
        self.assertEqual(answer.fields["referrer-policy"], "no-referrer")
        self.assertNotIn("access-control-allow-origin", answer.fields)
        tag = answer.fields["etag"]
        for known in (tag, f'"x",{tag},"y"', f"W/{tag}", "*"):
            again = await self.get(said["url"], If_None_Match=known)
            self.assertEqual((again.status, again.body), (304, b""), known)
            self.assertNotIn("content-length", again.fields)

    async def test_parts(self) -> None:
        """A player jumps to any place of a video."""
        content = samples.MP4 + os.urandom(700_000)
        said = await self.stored(content, await self.anonymous())
        size = len(content)
        for wanted, start, end in (
            ("bytes=0-", 0, size),
            ("bytes=100-199", 100, 200),
            ("bytes=-500", size - 500, size),
            (f"bytes={size - 1}-", size - 1, size),
            ("bytes=262143-600000", 262143, 600001),
        ):
            answer = await self.get(said["url"], Range=wanted)
            self.assertEqual((answer.status, answer.body), (206, content[start:end]), wanted)
            self.assertEqual(answer.fields["content-range"], f"bytes {start}-{end - 1}/{size}")
        answer = await self.get(said["url"], Range=f"bytes={size}-")
        self.assertEqual((answer.status, answer.fields["content-range"]), (416, f"bytes */{size}"))
        self.assertEqual(answer.fields["cache-control"], "no-store")
        answer = await self.get(said["url"], Range="bytes=0-9", If_Range='"another"')
        self.assertEqual((answer.status, len(answer.body)), (200, size))
        answer = await self.get(said["url"], "HEAD", Range="bytes=0-9")
        self.assertEqual((answer.status, answer.fields["content-length"], answer.body), (200, str(size), b""))
        self.assertEqual(answer.fields["accept-ranges"], "bytes")

    async def test_nothing_else(self) -> None:
        """No path leads to anything but a file that was sent."""
        said = await self.stored(samples.image("PNG"), await self.anonymous())
        name = said["url"].rpartition("/")[2]
        for path in (
            *("/files/", "/files/x", f"/files/{name}x", f"/files/{name[:-1]}", f"/files/{name.upper()}"),
            *("/files/../secret", "/files/..%2fsecret", "/files/%2e%2e/secret", f"/files/..%2f{name[:2]}%2f{name}"),
            *(f"/files/{name}/../../secret", f"/files/{name}/", f"/files/{name}/thumb", f"/files/{name}/thumb/x"),
            *(f"/files/{name}-thumb", "/files/arriving", f"/files/{name[:2]}/{name}", f"/files/{name}%00", "/files//"),
            f"/files/{'0' * 40}",
        ):
            answer = await deferToThread(ask, self.daemon.port, "GET", path)
            self.assertEqual((answer.status, answer.body), (404, b"not found\n"), path)
        for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
            self.assertEqual((await self.get(said["url"], method)).status, 405)
        self.assertEqual((await self.get("/files", "GET")).status, 405)

    async def test_names(self) -> None:
        """A name with a path, or with what cannot be seen, is an ordinary name; one that is no UTF-8 is refused."""
        given = await self.anonymous()
        for sent, name in (("../../etc/passwd", "passwd"), ("a\r\nSet-Cookie: x", "aSet-Cookie x"), ("x" * 300, None)):
            said = await self.stored(b"x", given, sent)
            if name is not None:
                self.assertEqual(said["name"].replace(":", ""), name)
            answer = await self.get(said["url"])
            self.assertNotIn("set-cookie", answer.fields)
        answer = await self.post(b"x", given, X_File_Name="%FF%FE")
        self.assertEqual((answer.status, answer.said), (400, {"error": "name"}))

    async def test_tokens(self) -> None:
        """Guests and admins send with the token of their connection; without a good one nobody does."""
        admin = self.daemon.add_admin(self.group_id, "Ann")
        await self.stored(b"x", token(admin_id=admin))
        customer = token(gid="c1", group_id=self.group_id)
        self.assertEqual((await self.post(b"x", customer)).status, 401)
        await self.guest(token=customer)
        await self.stored(b"x", customer)
        for bad in (
            *(
                "x",
                "a.b.c",
                "",
                " ",
                "tök",
                "tö.k.én",
                "x" * 9000,
                token(admin_id=admin, age=7200),
                token(admin_id=10**9),
            ),
            token(admin_id=admin, secret="not the secret of the shop, but long"),
        ):
            answer = await self.post(b"x", bad)
            self.assertIn((answer.status, answer.said["error"]), ((401, "token"), (403, "banned")), bad[:50])
        given = await self.anonymous()
        for fields in (
            {"Authorization": given},
            {"Authorization": f"Basic {given}"},
            {"Cookie": f"token={given}"},
            {"X_Token": given},
        ):
            answer = await deferToThread(ask, self.daemon.port, "POST", "/files", b"x", **fields)
            self.assertEqual((answer.status, answer.said), (401, {"error": "token"}))
            self.assertEqual(answer.fields["www-authenticate"], "Bearer")
        answer = await deferToThread(ask, self.daemon.port, "POST", f"/files?token={given}", b"x")
        self.assertEqual(answer.status, 405)
        self.assertNotIn(given, self.daemon.log)

    async def test_banned(self) -> None:
        """A banned guest and a banned admin send nothing; what they sent before stays."""
        guest = await self.guest()
        given = guest.data["guest_token"]
        said = await self.stored(b"x", given)
        await self.daemon.command_line("guest", "ban", str(guest.gid))
        answer = await self.post(b"x", given)
        self.assertEqual((answer.status, answer.said), (403, {"error": "banned"}))
        self.assertEqual((await self.get(said["url"])).status, 200)
        admin = self.daemon.add_admin(self.group_id, "Ann")
        await self.daemon.command_line("admin", "ban", str(admin))
        self.assertEqual((await self.post(b"x", token(admin_id=admin))).status, 403)

    async def test_origins(self) -> None:
        """Pages of others cannot send, even with a token; our own, and apps, can."""
        given = await self.anonymous()
        for origin in ("http://evil.example", "null", f"http://127.0.0.1:{self.daemon.port + 1}", "https://127.0.0.1"):
            answer = await self.post(b"x", given, Origin=origin)
            self.assertEqual((answer.status, answer.said), (403, {"error": "origin"}), origin)
            self.assertNotIn("access-control-allow-origin", answer.fields)
        own = f"https://127.0.0.1:{self.daemon.port}"
        said = await self.stored(b"x", given, Origin=own)
        self.assertTrue(said["url"].startswith(f"{own}/files/"), said["url"])

    async def test_largest_of_all(self) -> None:
        """What no kind allows is refused before a byte of it is sent."""
        given = await self.anonymous()
        limit = 100 * MIB

        def refused() -> Answer:
            connection = HTTPConnection("127.0.0.1", self.daemon.port, timeout=PATIENCE)
            connection.putrequest("POST", "/files")
            connection.putheader("Authorization", f"Bearer {given}")
            connection.putheader("Content-Length", str(limit + 1))
            connection.endheaders()
            try:
                return read(connection.getresponse())
            finally:
                connection.close()

        answer = await deferToThread(refused)
        self.assertEqual((answer.status, answer.said), (413, {"error": "too_large", "max": limit}))
        self.assertEqual(answer.fields["connection"], "close")
        self.assertEqual((await self.post(b"", given)).said, {"error": "empty"})
        answer = await self.post(iter([b"chunks"]), given)
        self.assertEqual(answer.status, 411)

    async def test_too_large_for_its_kind(self) -> None:
        """Too large an image is refused by its beginning; a browser that sends on still gets the answer."""
        given = await self.anonymous()
        content = samples.image("PNG").ljust(11 * MIB)
        answer = await self.post(content, given)
        self.assertEqual((answer.status, answer.said), (413, {"error": "too_large", "kind": "image", "max": 10 * MIB}))
        await self.nothing_arrives()
        self.assertEqual((await self.stored(content[: 10 * MIB], given))["kind"], "image")

    async def test_interrupted(self) -> None:
        """Whoever hangs up in the middle, at whatever point, leaves nothing."""
        given = await self.anonymous()
        whole = header(300_000, given) + samples.photo((40, 30)).ljust(300_000)
        before = self.on_disk()
        for cut in (20, 150, 400, 5000, 299_999):
            client = RawClient(self.daemon.port)
            client.socket.sendall(whole[:cut])
            if cut > 1000:
                await eventually(self._something_arrives, "a file that arrives")
            client.close()
            await self.nothing_arrives()
        self.assertEqual(self.on_disk(), before)

    async def _something_arrives(self) -> bool:
        return bool(self.arriving())

    async def test_dead_in_the_middle(self) -> None:
        """Also a connection that is reset."""
        client = RawClient(self.daemon.port)
        client.socket.sendall(header(300_000, await self.anonymous()) + b"x" * 100_000)
        await eventually(self._something_arrives, "a file that arrives")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        await self.nothing_arrives()

    async def test_kept_connection(self) -> None:
        """Several files, a page and a file again on one connection."""
        given = await self.anonymous()

        def work() -> list[int]:
            connection = HTTPConnection("127.0.0.1", self.daemon.port, timeout=PATIENCE)
            statuses = []
            for content in (b"x", samples.photo(), b"y" * 500_000):
                connection.request("POST", "/files", content, {"Authorization": f"Bearer {given}"})
                said = read(connection.getresponse())
                connection.request("GET", urlsplit(said.said["url"]).path)
                statuses += [said.status, int(read(connection.getresponse()).body == content)]
                connection.request("GET", "/healthz")
                statuses.append(read(connection.getresponse()).status)
            local = connection.sock.getsockname() if connection.sock else None
            connection.close()
            return statuses if local else []

        self.assertEqual(await deferToThread(work), [201, 1, 200] * 3)

    async def test_slow_one_holds_nobody(self) -> None:
        """While one uploads drop by drop, others send files and messages."""
        given = await self.anonymous()
        slow = RawClient(self.daemon.port)
        slow.socket.sendall(header(10_000, given) + b"x" * 5000)
        await eventually(self._something_arrives, "a file that arrives")
        guest = await self.guest()
        for number in range(5):
            slow.socket.sendall(b"y")
            await self.stored(samples.photo((900, 600)), guest.data["guest_token"])
            guest.good(await guest.request(22300, msg=f"message {number}"))
        slow.socket.sendall(b"z" * 4995)
        self.assertIn("201 Created", await deferToThread(slow.head))
        slow.close()

    async def test_at_once(self) -> None:
        """One guest sends four files at once; the fifth is told to wait, others are not."""
        given = await self.anonymous()
        clients = [RawClient(self.daemon.port) for _ in range(4)]
        for client in clients:
            self.addCleanup(client.close)
            client.socket.sendall(header(5000, given) + b"x" * 4500)

        async def four() -> bool:
            return len(self.arriving()) == 4

        await eventually(four, "four files that arrive")
        answer = await self.post(b"x", given)
        self.assertEqual((answer.status, answer.said["error"]), (429, "rate"))
        self.assertEqual(answer.fields["retry-after"], "1")
        await self.stored(b"x", await self.anonymous())
        for client in clients:
            client.socket.sendall(b"x" * 500)
            self.assertIn("201 Created", await deferToThread(client.head))
        await self.stored(b"x", given)


class OwnTests(FilesCase):
    """Each with a daemon of its own."""

    async def start(self, *options: str, **how: Any) -> None:
        self.daemon = Daemon(*ROOMY, *options, database=await fresh_database(), **how)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.daemon.close()))
        await self.daemon.start()
        self.group_id = self.daemon.add_group()

    async def test_flat_memory(self) -> None:
        """A hundred megabytes pass through without being held, in and out, also to one who reads slowly."""
        await self.start()
        given = await self.anonymous()
        await self.stored(samples.MP4, given)
        before = resident(self.daemon.pid)
        most = [before]
        looking = threading.Event()

        def look() -> None:
            while not looking.wait(0.01):
                most.append(resident(self.daemon.pid))

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            content = samples.MP4.ljust(100 * MIB, b"v")
            said = await self.stored(content, given)
            slow = RawClient(self.daemon.port, room=4096)
            self.addCleanup(slow.close)
            path = urlsplit(said["url"]).path
            slow.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            self.assertIn("200 OK", await deferToThread(slow.head))
            answer = await self.get(said["url"])
            self.assertEqual(answer.body, content)
        finally:
            looking.set()
            watcher.join()
        self.assertLess(max(most) - before, 24 * MIB)
        self.assertEqual(await deferToThread(slow.take, 1000), content[:1000])

    async def test_killed(self) -> None:
        """What was arriving when the server was killed is gone after the next start; what had arrived is there."""
        await self.start()
        given = await self.anonymous()
        said = await self.stored(samples.photo(), given)
        client = RawClient(self.daemon.port)
        client.socket.sendall(header(900_000, given) + b"x" * 500_000)

        async def arrives() -> bool:
            return bool(self.arriving())

        await eventually(arrives, "a file that arrives")
        await self.daemon.kill()
        client.close()
        self.assertEqual(len(self.arriving()), 1)
        await self.daemon.start()
        self.assertEqual(self.arriving(), [])
        self.assertEqual(self.daemon.sql("SELECT name FROM upload WHERE media_type IS NULL"), [])
        self.assertEqual((await self.get(said["url"])).status, 200)

    async def test_stopped(self) -> None:
        """A stop does not wait for uploads, and leaves nothing of them."""
        await self.start()
        given = await self.anonymous()
        client = RawClient(self.daemon.port)
        client.socket.sendall(header(900_000, given) + b"x" * 500_000)

        async def arrives() -> bool:
            return bool(self.arriving())

        await eventually(arrives, "a file that arrives")
        for directory in (self.daemon.data / "files", *(self.daemon.data / "files").rglob("*/")):
            self.assertEqual(stat.S_IMODE(directory.stat().st_mode) & 0o077, 0, directory)
        self.assertEqual(await self.daemon.stop(), 0)
        client.close()
        self.assertEqual(self.arriving(), [])
        self.assertEqual(self.daemon.sql("SELECT name FROM upload"), [])

    async def test_stalled(self) -> None:
        """Who stops sending is cut off, and so is who takes too long altogether."""
        await self.start("--dead-after", "2", "--ping-after", "1", "--upload-timeout", "5")
        given = await self.anonymous()
        still = RawClient(self.daemon.port)
        still.socket.sendall(header(10_000, given) + b"x" * 5000)
        self.assertEqual(await deferToThread(still.head), "")
        still.close()
        dripping = RawClient(self.daemon.port)
        dripping.socket.sendall(header(100_000, given) + b"x" * 5000)
        self.assertTrue(await deferToThread(dripping.drip, b"x" * 2000))
        dripping.close()
        await self.nothing_arrives()

    async def test_limits(self) -> None:
        """Each limit can be set, and holds at its edge."""
        await self.start(
            *("--max-image", "1000", "--max-voice", "900", "--max-video", "0", "--max-file", "800"),
            *("--upload-quota", "3000", "--uploads-per-minute", "4", "--max-uploads", "1"),
        )
        given = await self.anonymous()
        self.assertEqual((await self.stored(samples.image("PNG").ljust(1000), given))["kind"], "image")
        answer = await self.post(samples.image("PNG").ljust(1001), given)
        self.assertEqual(answer.said, {"error": "too_large", "max": 1000})
        answer = await self.post(samples.WEBM, given)
        self.assertEqual(answer.said, {"error": "too_large", "kind": "video", "max": 0})
        answer = await self.post(b"x" * 801, given)
        self.assertEqual(answer.said, {"error": "too_large", "kind": "file", "max": 800})
        answer = await self.post(b"x", given)
        self.assertEqual((answer.status, answer.said["error"]), (429, "rate"))
        self.assertGreater(answer.said["retry_after_ms"], 0)
        given = await self.anonymous()
        for _ in range(3):
            await self.stored(samples.image("PNG").ljust(1000), given)
        answer = await self.post(b"x", given)
        self.assertEqual((answer.status, answer.said["error"], answer.said["left"]), (429, "quota", 0))
        client = RawClient(self.daemon.port)
        self.addCleanup(client.close)
        client.socket.sendall(header(800, await self.anonymous()) + b"x" * 700)

        async def arrives() -> bool:
            return bool(self.daemon.sql("SELECT name FROM upload WHERE media_type IS NULL"))

        await eventually(arrives, "a file that arrives")
        answer = await self.post(b"x", await self.anonymous())
        self.assertEqual((answer.status, answer.said["error"], answer.fields["retry-after"]), (503, "busy", "1"))
        client.socket.sendall(b"x" * 100)
        self.assertIn("201 Created", await deferToThread(client.head))

    async def test_no_room(self) -> None:
        """A disk that is nearly full takes no files; conversations go on."""
        await self.start("--min-free", "1024G")
        answer = await self.post(b"x", await self.anonymous())
        self.assertEqual((answer.status, answer.said), (507, {"error": "no_room"}))
        guest = await self.guest()
        guest.good(await guest.request(22300, msg="hello"))
        self.assertEqual(self.daemon.sql("SELECT name FROM upload"), [])

    async def test_full_disk(self) -> None:
        """A disk that becomes full in the middle: the sender is told, and nothing stays.

        The kernel's limit of a file's size stands for it; a write fails in the same way.
        """
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000));"
        run = "from twisted.scripts.twistd import run; run()"
        await self.start(program=("-c", limit + run))
        answer = await self.post(b"x" * 1_000_001, await self.anonymous())
        self.assertEqual((answer.status, answer.said), (507, {"error": "no_room"}))
        await self.nothing_arrives()
        await self.stored(b"x" * 1_000_000, await self.anonymous())

    async def test_elsewhere(self) -> None:
        """Files may lie on another disk than the rest."""
        place = scratch()
        self.addCleanup(shutil.rmtree, place)
        await self.start("--files", str(place))
        said = await self.stored(b"x", await self.anonymous())
        self.assertEqual((await self.get(said["url"])).body, b"x")
        self.assertFalse((self.daemon.data / "files").exists())
        name = said["url"].rpartition("/")[2]
        self.assertEqual((place / name[:2] / name).read_bytes(), b"x")
        (place / name[:2] / name).unlink()
        self.assertEqual((await self.get(said["url"])).status, 404)

    async def test_behind_a_proxy(self) -> None:
        """A proxy that ends TLS says so; one that is not trusted says nothing."""
        await self.start("--trusted-proxy", "127.0.0.1")
        given = await self.anonymous()
        said = await self.stored(b"x", given, Host="chat.example.com", X_Forwarded_Proto="https")
        self.assertTrue(said["url"].startswith("https://chat.example.com/files/"), said["url"])
        said = await self.stored(b"x", given, Host="chat.example.com")
        self.assertTrue(said["url"].startswith("http://chat.example.com/files/"), said["url"])

    async def test_one_address(self) -> None:
        """Whoever keeps uploads open, as many guests, leaves room for people elsewhere."""
        await self.start("--max-uploads", "8", "--trusted-proxy", "127.0.0.1")
        for _ in range(2):
            client = RawClient(self.daemon.port)
            self.addCleanup(client.close)
            given = await self.anonymous()
            client.socket.sendall(header(9000, given, "X-Forwarded-For: 192.0.2.1") + b"x" * 5000)

        async def two() -> bool:
            return len(self.arriving()) == 2

        await eventually(two, "two files that arrive")
        answer = await self.post(b"x", await self.anonymous(), X_Forwarded_For="192.0.2.1")
        self.assertEqual((answer.status, answer.said["error"]), (429, "rate"))
        await self.stored(b"x", await self.anonymous(), X_Forwarded_For="192.0.2.2")

    async def test_many_tries(self) -> None:
        """Whoever tries token after token is stopped, and others of another address are not."""
        await self.start("--uploads-per-minute", "1", "--trusted-proxy", "127.0.0.1")
        for _ in range(10):
            self.assertEqual((await self.post(b"x", "guess", X_Forwarded_For="192.0.2.1")).status, 401)
        answer = await self.post(b"x", await self.anonymous(), X_Forwarded_For="192.0.2.1")
        self.assertEqual((answer.status, answer.said["error"]), (429, "rate"))
        await self.post(b"x", await self.anonymous(), X_Forwarded_For="192.0.2.2")

    async def test_frozen_database(self) -> None:
        """Without the database nothing is taken, and senders are told to come again."""
        await self.start("--query-timeout", "1")
        given = await self.anonymous()
        said = await self.stored(b"x", given)
        self.daemon.sql("ALTER TABLE upload RENAME TO away")
        answer = await self.post(b"x", given)
        self.assertEqual((answer.status, answer.said["error"]), (503, "database"))
        self.assertEqual((await self.get(said["url"])).status, 503)
        self.daemon.sql("ALTER TABLE away RENAME TO upload")
        await self.stored(b"x", given)
        self.assertEqual(len(self.on_disk()), 2)


class BucketTests(FilesCase):
    """With a bucket of a real object store."""

    if bucket.MISSING:
        skip = bucket.MISSING

    async def setUp(self) -> None:  # type: ignore[override]
        self.bucket = await deferToThread(bucket.new_bucket, f"daemon-{os.getpid()}-{time.monotonic_ns()}")
        self.daemon = Daemon(
            *(*ROOMY, "--files", f"s3://{self.bucket}/chat", "--bucket-endpoint", bucket.endpoint()),
            database=await fresh_database(),
            environment=bucket.ENVIRONMENT,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(self.daemon.close()))
        await self.daemon.start()
        self.group_id = self.daemon.add_group()

    async def names(self) -> list[str]:
        return await deferToThread(bucket.names, self.bucket)

    async def test_there_and_back(self) -> None:
        """Files go to the bucket and come from it, in parts too, and nothing of them stays on the disk."""
        given = await self.anonymous()
        content = samples.MP4 + os.urandom(3 * MIB)
        said = await self.stored(content, given, "clip.mp4")
        answer = await self.get(said["url"])
        self.assertEqual(answer.body, content)
        self.assertEqual(answer.fields["content-type"], "video/mp4")
        self.assertIn("sandbox", answer.fields["content-security-policy"])
        answer = await self.get(said["url"], Range="bytes=1000000-2500000")
        self.assertEqual((answer.status, answer.body), (206, content[1_000_000:2_500_001]))
        photo = await self.stored(samples.photo(), given)
        self.assertEqual((await self.get(photo["thumb"])).fields["content-type"], "image/jpeg")
        name = photo["url"].rpartition("/")[2]
        self.assertEqual(
            await self.names(),
            sorted([f"chat/{said['url'].rpartition('/')[2]}", f"chat/{name}", f"chat/{name}-thumb"]),
        )
        self.assertEqual(self.on_disk("arriving"), [])

    async def test_interrupted(self) -> None:
        """An upload that ends early leaves nothing in the bucket."""
        client = RawClient(self.daemon.port)
        client.socket.sendall(header(10_000, await self.anonymous()) + b"x" * 9000)

        async def arrives() -> bool:
            return bool(self.on_disk("arriving"))

        await eventually(arrives, "a file that arrives")
        client.close()
        await self.nothing_arrives()
        self.assertEqual((await self.names(), self.on_disk("arriving")), ([], []))

    async def test_away(self) -> None:
        """A bucket that does not answer stops no conversation, and whoever sends a file is told to come again."""
        daemon = self.daemon = Daemon(
            *(*ROOMY, "--files", "s3://bucket", "--bucket-endpoint", "http://127.0.0.1:9"),
            database=self.daemon.database,
            environment=bucket.ENVIRONMENT,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.close()))
        await daemon.start()
        self.assertIn("files cannot be kept", daemon.log)
        guest = await self.guest()
        guest.good(await guest.request(22300, msg="hello"))
        answer = await self.post(b"x", guest.data["guest_token"])
        self.assertEqual((answer.status, answer.said["error"]), (503, "store"))

    async def test_wrong(self) -> None:
        """A bucket that is not there stops the start, in one line."""
        daemon = Daemon(
            *("--files", "s3://nothing", "--bucket-endpoint", bucket.endpoint()),
            database=self.daemon.database,
            environment=bucket.ENVIRONMENT,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.close()))
        daemon.run()
        self.assertEqual(await daemon.ended(), 1)
        self.assertIn("chatproto: cannot start: --files s3://nothing cannot be used: NoSuchBucket\n", daemon.log)

    async def test_gone(self) -> None:
        """A file that was taken out of the bucket is not found; a bucket that is gone is said to be."""
        given = await self.anonymous()
        said = await self.stored(b"x", given)
        key = f"chat/{said['url'].rpartition('/')[2]}"
        await deferToThread(bucket.client().delete_object, Bucket=self.bucket, Key=key)
        self.assertEqual((await self.get(said["url"])).status, 404)
        await deferToThread(bucket.client().delete_bucket, Bucket=self.bucket)
        answer = await self.post(b"x", given)
        self.assertEqual((answer.status, answer.said["error"]), (503, "store"))
