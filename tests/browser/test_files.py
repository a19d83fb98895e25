"""Pictures, voice and files between a console and a guest."""

from __future__ import annotations

import base64
import struct
import time
import urllib.request
import zlib
from itertools import pairwise
from typing import Any

from playwright.sync_api import FilePayload, Locator, Page, Route, expect

from tests.browser.case import RECORDING, BrowserTestCase
from tests.browser.server import Guest, wait_until


def png(width: int = 320, height: int = 200) -> bytes:
    """A picture: stripes of colour."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack("!I", len(content)) + name + content + struct.pack("!I", zlib.crc32(name + content))

    row = b"\0" + b"".join(bytes((60 + column * 160 // width, 110, 190)) for column in range(width))
    head = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")
    )


HEIGHTS = range(211, 199, -1)
"""Of pictures that are sent one after the other."""


def choose(chooser: Locator) -> None:
    """Pictures of these heights, all at once."""
    pictures: list[FilePayload] = [
        {"name": f"{height}.png", "mimeType": "image/png", "buffer": png(320, height)} for height in HEIGHTS
    ]
    chooser.set_input_files(pictures)


class Tries:
    """The first uploads of a page, which get these answers, (status, error, retry_after_ms); the next ones arrive.

    :ivar at: when each one came.
    """

    def __init__(self, page: Page, *answers: tuple[int, str, int | None]) -> None:
        self.at: list[float] = []
        self._answers = list(answers)
        page.route("**/files", self._answer)

    def gaps(self) -> list[float]:
        """Seconds between them."""
        return [later - before for before, later in pairwise(self.at)]

    def _answer(self, route: Route) -> None:
        self.at.append(time.monotonic())
        if self._answers:
            status, error, retry_after_ms = self._answers.pop(0)
            route.fulfill(status=status, json={"error": error, "retry_after_ms": retry_after_ms})
        else:
            route.continue_()


class FileTests(BrowserTestCase):
    def desk_with_guest(self, **options: Any) -> tuple[Page, Guest]:
        desk = self.console(self.add_admin("Alice"), **options)
        gina = self.meet(desk, "Can I see it?")
        return desk, gina

    def drop(self, desk: Page, name: str, kind: str, content: bytes, event: str, onto: str = ".chat textarea") -> None:
        """Paste or drop a file, as the browser itself would tell it."""
        desk.locator(onto).evaluate(
            """(field, [name, kind, content, event]) => {
                const data = new DataTransfer();
                const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
                data.items.add(new File([bytes], name, {type: kind}));
                const how = {bubbles: true, cancelable: true};
                field.dispatchEvent(event === 'paste' ? new ClipboardEvent('paste', {clipboardData: data, ...how})
                    : new DragEvent('drop', {dataTransfer: data, ...how}));
            }""",
            [name, kind, base64.b64encode(content).decode(), event],
        )

    def test_picture(self) -> None:
        """A picture that is chosen, pasted or dropped arrives with its size, and is shown where it was sent."""
        desk, gina = self.desk_with_guest()
        with desk.expect_file_chooser() as choosing:
            desk.get_by_role("button", name="Attach a file").click()
        choosing.value.set_files({"name": "红色的灯.png", "mimeType": "image/png", "buffer": png()})
        shown = desk.locator(".picture img")
        expect(shown).to_have_js_property("complete", True)
        self.drop(desk, "pasted.png", "image/png", png(100, 300), "paste")
        expect(shown).to_have_count(2)
        self.drop(desk, "dropped.png", "image/png", png(300, 100), "drop")
        expect(shown).to_have_count(3)
        sent = [gina.push(22399)["message_info"] for _ in range(3)]
        self.assertEqual([one["file_type"] for one in sent], [1, 1, 1])
        self.assertEqual((sent[0]["msg"]["width"], sent[0]["msg"]["height"]), (320, 200))
        with urllib.request.urlopen(sent[0]["msg"]["url"]) as answer:
            self.assertEqual(answer.read()[:8], b"\x89PNG\r\n\x1a\n")
        # Nothing jumps: the place has the picture's shape before it is loaded.
        self.assertEqual(shown.first.evaluate("({width, height}) => [width, height]"), [260, 163])
        self.picture(desk, "console-pictures")

    def test_dropped_anywhere(self) -> None:
        """A file may be dropped anywhere on the chat, and is sent once wherever that is."""
        desk, gina = self.desk_with_guest()
        places = (".chat-head", ".log", ".composer", ".chat textarea")
        for number, place in enumerate(places):
            self.drop(desk, f"notes-{number}.txt", "text/plain", b"some notes", "drop", place)
            self.assertEqual(gina.push(22399)["message_info"]["msg"]["name"], f"notes-{number}.txt")
        expect(desk.locator(".row.mine")).to_have_count(len(places))
        self.assertEqual(len(gina.history()), 1 + len(places))

    def test_voice(self) -> None:
        """A recording is sent as a voice message with its length, and can be played."""
        desk, gina = self.desk_with_guest(permissions=["microphone"])
        desk.get_by_role("button", name="Record a voice message").click()
        expect(desk.get_by_text(RECORDING)).to_be_visible()
        self.picture(desk, "console-recording")
        desk.get_by_role("button", name="Send the recording").click()
        message = gina.push(22399)["message_info"]
        self.assertEqual(message["file_type"], 2)
        self.assertGreater(message["msg"]["duration_ms"], 500)
        desk.get_by_role("button", name="Play").click()
        expect(desk.get_by_role("button", name="Pause")).to_be_visible()
        expect(desk.get_by_role("button", name="Play")).to_be_visible()
        desk.get_by_role("button", name="Record a voice message").click()
        desk.get_by_role("button", name="Discard the recording").click()
        expect(desk.get_by_role("textbox", name="Message")).to_be_visible()
        self.assertEqual(len(gina.history()), 2)

    def test_video(self) -> None:
        """A video is shown with its controls, where it was sent."""
        desk, gina = self.desk_with_guest()
        head = struct.pack("!I4s4sI8s", 24, b"ftyp", b"isom", 512, b"isommp42")
        self.drop(desk, "lamp.mp4", "video/mp4", head + struct.pack("!I4s", 8 + 2000, b"mdat") + bytes(2000), "drop")
        message = gina.push(22399)["message_info"]
        self.assertEqual(message["file_type"], 5)
        video = desk.locator("video")
        expect(video).to_be_visible()
        expect(video).to_have_attribute("src", message["msg"]["url"])
        self.assertTrue(video.evaluate("({controls, autoplay}) => controls && !autoplay"))

    def test_document(self) -> None:
        """Any other file arrives with its name and size and is never opened inside the page."""
        desk, gina = self.desk_with_guest()
        self.drop(desk, "page.html", "text/html", b"<script>alert(1)</script>" * 100, "drop")
        message = gina.push(22399)["message_info"]
        self.assertEqual((message["file_type"], message["msg"]["name"], message["msg"]["size"]), (6, "page.html", 2500))
        expect(desk.get_by_role("link", name="page.html")).to_contain_text("kB")
        with urllib.request.urlopen(message["msg"]["url"]) as answer:
            self.assertIn("attachment", answer.headers["Content-Disposition"])

    def test_cancel(self) -> None:
        """An upload shows how far it is and can be cancelled; one that fails says why and can be tried again."""
        desk, gina = self.desk_with_guest()
        session = desk.context.new_cdp_session(desk)
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", slow)
        with desk.expect_file_chooser() as choosing:
            desk.get_by_role("button", name="Attach a file").click()
        choosing.value.set_files(
            {"name": "large.bin", "mimeType": "application/octet-stream", "buffer": b"x" * 3_000_000}
        )
        progress = desk.get_by_role("progressbar", name="Uploading large.bin")
        expect(progress).to_be_visible()
        self.picture(desk, "console-upload")
        desk.get_by_role("button", name="Cancel").click()
        expect(progress).to_have_count(0)
        session.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
        self.expect_trouble("status of 413")
        desk.route("**/files", lambda route: route.fulfill(status=413, body='{"error": "too_large"}'), times=1)
        self.drop(desk, "notes.txt", "text/plain", b"some notes", "drop")
        expect(desk.get_by_role("alert")).to_contain_text("This file is too large.")
        desk.get_by_role("button", name="Try again").click()
        expect(desk.get_by_role("link", name="notes.txt")).to_be_visible()
        wait_until(lambda: len(gina.history()) == 2, "one file")

    def test_several(self) -> None:
        """Many files that are chosen at once are all sent, in the order of choosing, though the server takes few."""
        desk, gina = self.desk_with_guest()
        choose(desk.locator("input[type=file]"))
        wait_until(lambda: len(gina.history()) == 1 + len(HEIGHTS), "all files")
        self.assertEqual([one["msg"]["height"] for one in gina.history()[1:]], list(HEIGHTS))
        expect(desk.locator(".row.mine")).to_have_count(len(HEIGHTS))

    def test_later(self) -> None:
        """A file that the server cannot take now is sent when it said, and can be given up until then."""
        desk, gina = self.desk_with_guest()
        self.expect_trouble("status of (429|503)")
        tries = Tries(desk, (503, "busy", 700), (429, "rate", 700))
        self.drop(desk, "notes.txt", "text/plain", b"some notes", "drop")
        expect(desk.get_by_role("link", name="notes.txt")).to_be_visible()
        self.assertGreaterEqual(tries.gaps()[0], 0.7)
        self.assertGreaterEqual(tries.gaps()[1], 0.7)
        tries = Tries(desk, (429, "rate", 3_600_000))
        self.drop(desk, "never.txt", "text/plain", b"never mind", "drop")
        wait_until(lambda: desk.title() and tries.at, "a try")
        self.drop(desk, "next.txt", "text/plain", b"the next one", "drop")
        desk.get_by_role("button", name="Cancel").first.click()
        expect(desk.get_by_role("link", name="next.txt")).to_be_visible()
        expect(desk.get_by_role("alert")).to_have_count(0)
        expect(desk.get_by_text("Sending…")).to_have_count(0)
        self.assertEqual([one["msg"]["name"] for one in gina.history()[1:]], ["notes.txt", "next.txt"])

    def test_refused(self) -> None:
        """What will not go for hours is not tried again and again: it says why."""
        desk, _ = self.desk_with_guest()
        self.expect_trouble("status of (429|507)")
        tries = Tries(desk, (429, "quota", 100), (507, "no_room", None))
        for text in ("Too many files. Try again later.", "The server has no room for files."):
            self.drop(desk, "notes.txt", "text/plain", b"some notes", "drop")
            expect(desk.get_by_role("alert")).to_contain_text(text)
            desk.get_by_role("button", name="Remove").click()
        self.assertEqual(len(tries.at), 2)

    def test_all_kinds(self) -> None:
        """Every kind that a guest sends is shown as what it is, and what nobody knows as plain text."""
        desk, gina = self.desk_with_guest()
        for number, (msg, seen) in {
            3: (
                {"id": "7", "title": "Red lamp", "price": 49.9, "currency": "EUR", "url": "https://shop.example/7"},
                "€49.90",
            ),
            4: (
                {"id": "A-1", "status": "shipped", "total": "129", "currency": "USD", "items": [1]},
                "shipped · 1 item",
            ),
            6: ({"url": "https://shop.example/bill.pdf", "name": "bill.pdf", "size": 34567}, "35 kB"),
        }.items():
            gina.say(msg, number)
            expect(desk.get_by_role("log").get_by_text(seen)).to_be_visible()
        gina.say({"lat": 52.5, "lon": 13.4}, 3)
        expect(desk.get_by_role("log").get_by_text('{"lat":52.5,"lon":13.4}')).to_be_visible()
        gina.say("look at https://shop.example/lamps?x=1&y=2, please")
        link = desk.get_by_role("link", name="https://shop.example/lamps?x=1&y=2", exact=True)
        expect(link).to_have_attribute("href", "https://shop.example/lamps?x=1&y=2")
        self.picture(desk, "console-cards")

    def test_cards(self) -> None:
        """An agent types a product or an order and sends it as a card."""
        desk, gina = self.desk_with_guest()
        desk.get_by_role("button", name="Product card").click()
        dialog = desk.get_by_role("dialog")
        dialog.get_by_label("Number").fill("7")
        dialog.get_by_label("Title").fill("Red lamp")
        dialog.get_by_label("Price").fill("49.90")
        dialog.get_by_label("Currency").fill("eur")
        self.picture(desk, "console-card-form")
        dialog.get_by_role("button", name="Send").click()
        self.assertEqual(
            gina.push(22399)["message_info"]["msg"],
            {"id": "7", "title": "Red lamp", "price": "49.90", "currency": "EUR"},
        )
        desk.get_by_role("button", name="Order card").click()
        dialog.get_by_label("Number").fill("A-1007")
        dialog.get_by_label("Status").fill("shipped")
        dialog.get_by_role("button", name="Send").click()
        self.assertEqual(gina.push(22399)["message_info"]["file_type"], 4)
