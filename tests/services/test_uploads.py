from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from chatproto import errors
from chatproto.domain.model import Person, Principal
from chatproto.domain.tokens import Keyring
from chatproto.files.local import Directory
from chatproto.files.refusal import UploadRefused
from chatproto.files.store import FileStore
from chatproto.services.uploads import DAY, UploadLimits, Uploads, clean_title
from tests.database import scratch
from tests.files import samples
from tests.integration.daemon import SHOP_SECRET, token
from tests.worlds import Server, WorldTestCase, run


class Gone(Exception):
    """The sender went away."""


class Sending:
    """A file that is sent in these parts.

    :ivar held: the sender waits before the last part, until the test fires it.
    """

    def __init__(self, content: bytes, title: str = "a.jpg", declared: str = "", size: int | None = None) -> None:
        self.size = len(content) if size is None else size
        self.title = title
        self.declared = declared
        self.parts = [content[at : at + 1000] for at in range(0, len(content), 1000)]
        self.begun = self.gone = False
        self.held: Deferred[bytes] | None = None

    def hold(self) -> Deferred[bytes]:
        self.held = held = Deferred[bytes]()
        return held

    def proceed(self) -> None:
        self.begun = True

    def read(self) -> Deferred[bytes]:
        if self.gone:
            return fail(Gone())
        if self.held is not None and len(self.parts) == 1:
            held, self.held = self.held, None
            return held
        return succeed(self.parts.pop(0) if self.parts else b"")


class UploadsCase(WorldTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.folder = scratch()
        self.addCleanup(shutil.rmtree, self.folder)
        self.keyring = Keyring([SHOP_SECRET.encode()], "HS256", b"the server's")
        self.uploads = await self.node("n1", self.server)
        self.sender = (await self.guest()).person

    async def node(self, name: str, server: Server, **limits: int) -> Uploads:
        """A node that shares the directory with others."""
        kinds = {"image": 4_000_000, "voice": 2000, "video": 3000, "file": 5000, "quota": 10_000_000}
        store = FileStore(Directory(self.folder), self.folder / "arriving" / name, reactor, 0)
        await store.start()
        self.addCleanup(lambda: run(store.stop()))
        self.store = store
        return Uploads(
            server.pool,
            store,
            server.sessions,
            name,
            UploadLimits(**{**kinds, **limits}),
            lambda: self.keyring,
            time.time,
        )

    def on_disk(self) -> list[str]:
        """The names of all files that there are, those that arrive among them."""
        return sorted(path.name for path in Path(self.folder).rglob("*") if path.is_file())

    def assertNothingLeft(self) -> None:
        self.assertEqual(self.on_disk(), [])
        self.assertEqual(self.query("SELECT name FROM upload"), [])

    async def refusal(self, sending: Sending, person: Person | None = None) -> tuple[str, dict[str, Any]]:
        try:
            await self.uploads.take(person or self.sender, sending)
        except UploadRefused as refused:
            return refused.error, refused.details
        self.fail("it was taken")


class TakeTests(UploadsCase):
    async def test_file(self) -> None:
        """A file is kept byte by byte, and found by its name."""
        content = os.urandom(4800)
        stored = await self.uploads.take(self.sender, Sending(content, "Prüfung.pdf"))
        self.assertEqual((stored.title, stored.size, stored.kind, stored.picture), ("Prüfung.pdf", 4800, "file", None))
        self.assertEqual(await self.store.read(stored.name, 0, 9999), content)
        row = await self.uploads.find(stored.name)
        assert row is not None
        self.assertEqual((row.title, row.media_type, row.thumb_type), ("Prüfung.pdf", "application/octet-stream", None))
        self.assertEqual(self.on_disk(), [stored.name])

    async def test_image(self) -> None:
        """An image brings its size as it is shown, and a thumbnail."""
        stored = await self.uploads.take(self.sender, Sending(samples.photo((1600, 900), 6)))
        assert stored.picture is not None
        self.assertEqual(stored.kind, "image")
        self.assertEqual((stored.picture.width, stored.picture.height), (900, 1600))
        row = await self.uploads.find(stored.name)
        assert row is not None and row.thumb_size is not None
        self.assertEqual((row.media_type, row.thumb_type), ("image/jpeg", "image/jpeg"))
        small = await self.store.read(f"{stored.name}-thumb", 0, row.thumb_size + 1)
        self.assertEqual((len(small), small[:3]), (row.thumb_size, b"\xff\xd8\xff"))
        self.assertEqual(self.on_disk(), [stored.name, f"{stored.name}-thumb"])

    async def test_no_image(self) -> None:
        """What only looks like an image is a file, to be downloaded."""
        for content in (samples.GIF_AND_SCRIPT, samples.bomb()[:4000]):
            stored = await self.uploads.take(self.sender, Sending(content))
            row = await self.uploads.find(stored.name)
            assert row is not None
            self.assertEqual((stored.kind, stored.picture), ("file", None))
            self.assertEqual((row.media_type, row.thumb_type), ("application/octet-stream", None))

    async def test_names(self) -> None:
        """Nobody can guess a name from another."""
        names = {(await self.uploads.take(self.sender, Sending(b"x"))).name for _ in range(5)}
        self.assertEqual((len(names), {len(name) for name in names}), (5, {40}))

    async def test_limits(self) -> None:
        """Each kind has its limit, by what it is and not by what it is called; the last byte counts."""
        for head, declared, kind, most in (
            (samples.OPUS, "", "voice", 2000),
            (samples.WEBM, "audio/webm", "voice", 2000),
            (samples.WEBM, "image/png", "video", 3000),
            (samples.PDF, "video/mp4", "file", 5000),
        ):
            stored = await self.uploads.take(self.sender, Sending(head.ljust(most), declared=declared))
            self.assertEqual(stored.kind, kind)
            sending = Sending(head.ljust(most + 1), declared=declared)
            self.assertEqual(await self.refusal(sending), ("too_large", {"kind": kind, "max": most}))

    async def test_limit_before_the_rest(self) -> None:
        """Too large a file is refused by its first bytes; one that nothing may have, before any."""
        sending = Sending(samples.OPUS.ljust(4096), size=3_000_000)
        self.assertEqual(await self.refusal(sending), ("too_large", {"kind": "voice", "max": 2000}))
        sending = Sending(b"", size=4_000_001)
        self.assertEqual(await self.refusal(sending), ("too_large", {"max": 4_000_000}))
        self.assertFalse(sending.begun)
        self.assertEqual(await self.refusal(Sending(b"")), ("empty", {}))
        self.assertNothingLeft()

    async def test_no_image_too_large(self) -> None:
        """What is no image after all has the limit of files."""
        sending = Sending(samples.GIF_AND_SCRIPT.ljust(5001))
        self.assertEqual(await self.refusal(sending), ("too_large", {"kind": "file", "max": 5000}))
        self.assertNothingLeft()

    async def test_sender_gone(self) -> None:
        """A sender who leaves in the middle, or before the answer, leaves nothing."""
        sending = Sending(b"x" * 4000)
        held = sending.hold()
        taking = run(self.uploads.take(self.sender, sending))
        held.errback(Gone())
        await self.assertFailure(taking, Gone)
        self.assertNothingLeft()
        sending = Sending(samples.photo())
        held = sending.hold()
        taking = run(self.uploads.take(self.sender, sending))
        sending.gone = True
        held.callback(sending.parts.pop())
        await self.assertFailure(taking, Gone)
        self.assertNothingLeft()

    async def test_database_away(self) -> None:
        """What the database does not know is not kept."""
        sending = Sending(b"x" * 4000)
        held = sending.hold()
        taking = run(self.uploads.take(self.sender, sending))
        await run(self.uploads.find("x"))
        self.query("ALTER TABLE upload ADD CHECK (media_type IS NULL)")
        held.callback(sending.parts.pop())
        await self.assertFailure(taking, errors.StorageError)
        self.assertNothingLeft()

    async def test_after_a_crash(self) -> None:
        """What a killed node had begun is gone after its next start; what others are taking stays."""
        begun = []
        for name in ("n1", "n2"):
            uploads = self.uploads if name == "n1" else await self.node("n2", await self.serve(name="n2"))
            sending = Sending(b"x" * 4000)
            held = sending.hold()
            begun.append((held, sending, run(uploads.take(self.sender, sending))))
        whole = await self.uploads.take(self.sender, Sending(b"whole"))
        [(first,)] = self.query("SELECT name FROM upload WHERE node = 'n1' AND media_type IS NULL")
        # As if it had been killed between the move to its place and the word to the database.
        path = self.folder / "x"
        path.write_bytes(b"y")
        await self.store.keep(path, first, "image/png")
        again = await self.node("n1", await self.serve(name="n1"))
        await again.tidy()
        self.assertEqual(
            self.query("SELECT node, media_type IS NULL FROM upload ORDER BY node"), [("n1", False), ("n2", True)]
        )
        self.assertEqual(self.on_disk().count(first), 0)
        self.assertEqual(await self.store.read(whole.name, 0, 9), b"whole")
        (held, sending, taking), (other_held, other, other_taking) = begun
        held.errback(Gone())
        await self.assertFailure(taking, Gone)
        other_held.callback(other.parts.pop())
        self.assertEqual((await other_taking).size, 4000)


class QuotaTests(UploadsCase):
    async def test_edge(self) -> None:
        """A guest may send so many bytes in a day and not one more; what was refused does not count."""
        self.uploads = await self.node("n3", self.server, quota=1000)
        await self.uploads.take(self.sender, Sending(b"x" * 400))
        error, details = await self.refusal(Sending(b"x" * 601))
        self.assertEqual((error, details["max"], details["left"]), ("quota", 1000, 600))
        self.assertTrue(0 < details["retry_after_ms"] <= DAY)
        await self.uploads.take(self.sender, Sending(b"x" * 600))
        self.assertEqual((await self.refusal(Sending(b"x")))[1]["left"], 0)
        other = (await self.guest()).person
        await self.uploads.take(other, Sending(b"x" * 1000))
        self.query("UPDATE upload SET created_at = created_at - %s", DAY)
        await self.uploads.take(self.sender, Sending(b"x" * 1000))

    async def test_admins(self) -> None:
        """Who works for the shop has no quota."""
        self.uploads = await self.node("n3", self.server, quota=10)
        await self.uploads.take(self.admin().person, Sending(b"x" * 11))

    async def test_several_nodes(self) -> None:
        """Sent at once to several nodes, it is no more."""
        nodes = [await self.node(f"q{n}", await self.serve(name=f"q{n}"), quota=1000) for n in range(3)]
        results = await DeferredList(
            [run(node.take(self.sender, Sending(b"x" * 300))) for node in nodes * 3], consumeErrors=True
        )
        self.assertEqual(sum(good for good, _ in results), 3)
        for good, result in results:
            if not good:
                self.assertEqual(result.value.error, "quota")
        self.assertEqual(self.query("SELECT sum(size)::int FROM upload"), [(900,)])


class WhoTests(UploadsCase):
    async def anonymous(self) -> tuple[str, Principal]:
        came = await self.server.guest_in(self.group)
        return came.guest_token, came.principal

    async def test_anonymous(self) -> None:
        """The token that an anonymous guest has of us is enough, until it is revoked."""
        given, guest = await self.anonymous()
        self.assertEqual(await self.uploads.who(given), guest.person)
        await self.server.sessions.forget_anonymous(guest, "ix0")
        await self.assertFailure(run(self.uploads.who(given)), errors.GuestTokenRevoked)
        await self.assertFailure(run(self.uploads.who("made-up")), errors.GuestTokenRevoked)

    async def test_customer(self) -> None:
        """A customer is known by the shop's token, once logged in; the token is looked at as at the login."""
        given = token(gid="c1")
        await self.assertFailure(run(self.uploads.who(given)), errors.GuestTokenRevoked)
        claims = self.keyring.verify_guest(given, time.time())
        guest = await self.server.guest(self.group, claims=claims)
        self.assertEqual((await self.uploads.who(given)).id, guest.person.id)
        for bad in (token(gid="c1", age=7200), token(gid="c1", secret="another secret, of 32 bytes or more"), "a.b.c"):
            await self.assertFailure(run(self.uploads.who(bad)), errors.AdminTokenBad)

    async def test_admin(self) -> None:
        admin = self.admin()
        self.assertEqual(await self.uploads.who(token(admin_id=admin.person.id)), admin.person)
        await self.assertFailure(run(self.uploads.who(token(admin_id=999_999))), errors.AdminBanned)

    async def test_banned(self) -> None:
        """Who may not log in may not send files: banned guests and admins, and everybody of a banned group."""
        given, guest = await self.anonymous()
        admin = self.admin()
        admin_token = token(admin_id=admin.person.id)
        self.query("UPDATE guest SET status = 'banned' WHERE id = %s", guest.person.id)
        await self.assertFailure(run(self.uploads.who(given)), errors.GuestBanned)
        self.query("UPDATE admin SET status = 'banned' WHERE id = %s", admin.person.id)
        await self.assertFailure(run(self.uploads.who(admin_token)), errors.AdminBanned)
        self.query("UPDATE guest SET status = 'active'")
        self.query("UPDATE admin SET status = 'active'")
        self.query("UPDATE service_group SET status = 'banned' WHERE id = %s", self.group)
        await self.assertFailure(run(self.uploads.who(given)), errors.GuestGroupBanned)
        await self.assertFailure(run(self.uploads.who(admin_token)), errors.AdminGroupBanned)

    async def test_bound_to_a_group(self) -> None:
        """A token that opens one group does not send files by way of another."""
        claims = self.keyring.verify_guest(token(gid="c1"), time.time())
        await self.server.guest(self.group, claims=claims)
        self.assertEqual((await self.uploads.who(token(gid="c1", group_id=self.group))).name, "")
        await self.assertFailure(
            run(self.uploads.who(token(gid="c1", group_id=self.group + 1))), errors.GuestGroupBanned
        )


class TitleTests(SynchronousTestCase):
    def test_cleaned(self) -> None:
        """Others see the name of a file and nothing that deceives them."""
        for title, clean in (
            ("photo.jpg", "photo.jpg"),
            ("Öl und 中文 😀.png", "Öl und 中文 😀.png"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\me\\a.txt", "a.txt"),
            ("a\0b\r\nc\x7f.txt", "abc.txt"),
            ("invoice\u202egpj.exe", "invoicegpj.exe"),
            ("a\u200b\u2028b", "ab"),
            ("  a \t b  ", "a b"),
            ("", "file"),
            ("..", "file"),
            ("/", "file"),
            (".htaccess", "htaccess"),
        ):
            self.assertEqual(clean_title(title), clean, repr(title))

    def test_long(self) -> None:
        """Of a long name the ending stays."""
        self.assertEqual(clean_title("a" * 196 + ".jpg"), "a" * 196 + ".jpg")
        cut = clean_title("a" * 300 + ".jpg")
        self.assertEqual((len(cut), cut[-5:], cut[178:180]), (200, "a.jpg", "a…"))
