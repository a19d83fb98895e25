"""Pictures, voice and files between a guest and an agent."""

from __future__ import annotations

import base64
import json

from playwright.sync_api import FilePayload, expect

from tests.browser.case import RECORDING
from tests.browser.server import wait_until
from tests.browser.shop import Agent, Widget, WidgetTestCase
from tests.browser.test_files import HEIGHTS, Tries, choose, png
from tests.browser.wire import Wire

# A video as a browser records it, in base64.
RECORD = """async () => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 64, height: 48});
  const pen = canvas.getContext('2d');
  const recorder = new MediaRecorder(canvas.captureStream(25), {mimeType: 'video/webm'});
  const parts = [];
  recorder.ondataavailable = ({data}) => parts.push(data);
  const ended = new Promise((done) => { recorder.onstop = done; });
  recorder.start();
  for (let count = 0; count < 6; count += 1) {
    pen.fillStyle = `hsl(${count * 60} 60% 50%)`;
    pen.fillRect(0, 0, 64, 48);
    await new Promise((done) => setTimeout(done, 40));
  }
  recorder.stop();
  await ended;
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  return btoa(String.fromCharCode(...bytes));
}"""


class FileTests(WidgetTestCase):
    def talking(self) -> tuple[Widget, Agent]:
        alice = self.agent()
        shop = self.visit().open()
        shop.write("I have a question")
        alice.meet()
        return shop, alice

    def test_picture(self) -> None:
        """A picture is chosen or dropped, stands there with its shape, and goes to the agent once."""
        shop, alice = self.talking()
        with shop.page.expect_file_chooser() as choosing:
            shop.frame.get_by_role("button", name="Attach a file").click()
        choosing.value.set_files({"name": "lamp.png", "mimeType": "image/png", "buffer": png()})
        sent = alice.push(32399, lambda data: data["message_info"]["file_type"] == 1)["message_info"]["msg"]
        self.assertEqual((sent["width"], sent["height"]), (320, 200))
        expect(shop.log.locator(".picture img")).to_have_js_property("complete", True)
        for place, event in ((".composer textarea", "drop"), (".log", "drop"), (".composer textarea", "paste")):
            shop.frame.locator(place).evaluate(
                """(place, [event, content]) => {
                  const data = new DataTransfer();
                  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
                  data.items.add(new File([bytes], 'a.png', {type: 'image/png'}));
                  const how = {bubbles: true, cancelable: true};
                  place.dispatchEvent(event === 'drop' ? new DragEvent('drop', {dataTransfer: data, ...how})
                    : new ClipboardEvent('paste', {clipboardData: data, ...how}));
                }""",
                [event, base64.b64encode(png(100, 300)).decode()],
            )
            alice.push(32399, lambda data: data["message_info"]["file_type"] == 1)
        expect(shop.log.locator(".picture img")).to_have_count(4)
        expect(shop.box).to_have_value("")
        self.assertEqual(len(alice.thread()), 5)
        self.picture(shop.page, "widget-pictures")

    def test_video(self) -> None:
        """A video is shown where it was sent, with its first picture and its controls, and does not begin by itself."""
        shop, alice = self.talking()
        video = base64.b64decode(shop.page.evaluate(RECORD))
        shop.frame.locator("input[type=file]").set_input_files(
            {"name": "lamp.webm", "mimeType": "video/webm", "buffer": video}
        )
        sent = alice.push(32399, lambda data: data["message_info"]["file_type"] == 5)["message_info"]["msg"]
        shown = shop.log.locator("video")
        expect(shown).to_be_visible()
        expect(shown).to_have_attribute("src", sent["url"])
        expect(shown).to_have_js_property("videoWidth", 64)
        self.assertEqual(
            shown.evaluate("({controls, autoplay, paused}) => [controls, autoplay, paused]"), [True, False, True]
        )
        alice.say(sent, 5)
        expect(shown).to_have_count(2)
        self.picture(shop.page, "widget-video")

    def test_cancel(self) -> None:
        """An upload shows how far it is; one that is cancelled leaves nothing, in the panel and on the server."""
        shop, alice = self.talking()
        frame = next(frame for frame in shop.page.frames if frame.url.startswith(self.chat))
        session = shop.page.context.new_cdp_session(frame)
        session.send("Network.enable")
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}
        session.send("Network.emulateNetworkConditions", slow)
        content = b"x" * 1_000_000
        shop.frame.locator("input[type=file]").set_input_files(
            {"name": "large.bin", "mimeType": "application/octet-stream", "buffer": content}
        )
        progress = shop.log.get_by_role("progressbar", name="Uploading large.bin")
        expect(progress).to_be_visible()
        expect(progress).not_to_have_js_property("value", 0)
        self.assertLess(progress.evaluate("(bar) => bar.value"), 1)
        wait_until(self._arriving, "the file on its way")
        self.picture(shop.page, "widget-upload")
        self.check(shop.page)
        shop.log.get_by_role("button", name="Cancel").click()
        expect(progress).to_have_count(0)
        expect(shop.log.locator(".bubble")).to_have_count(1)
        wait_until(lambda: not self._arriving(), "the file to be gone")
        files = [path for path in (self.server.daemon.data / "files").rglob("*") if path.is_file()]
        self.assertNotIn(len(content), [path.stat().st_size for path in files])
        session.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
        shop.write("Never mind")
        alice.heard("Never mind")
        self.assertEqual([one["msg"] for one in alice.thread()], ["I have a question", "Never mind"])
        wait_until(lambda: json.loads(shop.kept()[f"chatproto.{self.group_id}.outbox"]) == {}, "nothing that waits")

    def test_several(self) -> None:
        """Many files that are chosen at once are all sent, in the order of choosing, though the server takes few."""
        shop, alice = self.talking()
        choose(shop.frame.locator("input[type=file]"))
        wait_until(lambda: len(alice.thread()) == 1 + len(HEIGHTS), "all files")
        self.assertEqual([one["msg"]["height"] for one in alice.thread()[1:]], list(HEIGHTS))
        expect(shop.log.locator(".picture img")).to_have_count(len(HEIGHTS))

    def test_later(self) -> None:
        """A file that the server cannot take now is sent when it said; what it cannot keep says so."""
        shop, alice = self.talking()
        self.expect_trouble("status of (429|503|507)")
        tries = Tries(shop.page, (503, "busy", 700), (429, "rate", 700))
        chooser = shop.frame.locator("input[type=file]")
        notes: FilePayload = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"some notes"}
        chooser.set_input_files(notes)
        expect(shop.log.get_by_role("link", name="notes.txt")).to_be_visible()
        self.assertEqual(len(tries.at), 3)
        Tries(shop.page, (507, "no_room", None))
        chooser.set_input_files({**notes, "name": "more.txt"})
        expect(shop.log.get_by_role("alert")).to_contain_text("The server has no room for files.")
        self.check(shop.page)
        shop.log.get_by_role("button", name="Try again").click()
        expect(shop.log.get_by_role("link", name="more.txt")).to_be_visible()
        expect(shop.log.get_by_text("Sending…")).to_have_count(0)
        self.assertEqual([one["msg"]["name"] for one in alice.thread()[1:]], ["notes.txt", "more.txt"])

    def test_early(self) -> None:
        """A file that is chosen before there is a connection waits for it, and may be given up until then."""
        alice = self.agent()
        page = self.person()
        wire = Wire(page)
        wire.go_away()
        shop = self.visit(page).open()
        chooser = shop.frame.locator("input[type=file]")
        for name in ("first.png", "second.png"):
            chooser.set_input_files({"name": name, "mimeType": "image/png", "buffer": png()})
            expect(shop.log.get_by_text(f"Uploading {name}")).to_be_visible()
        shop.log.get_by_role("button", name="Cancel").first.click()
        wire.come_back()
        expect(shop.log.locator(".picture img")).to_have_count(1)
        expect(shop.log.get_by_text("Sending…")).to_have_count(0)
        alice.meet()
        self.assertEqual([one["file_type"] for one in alice.thread()], [1])

    def _arriving(self) -> list[tuple[object, ...]]:
        return self.server.daemon.sql("SELECT name FROM upload WHERE title = 'large.bin'")

    def test_voice(self) -> None:
        """A recording is sent with its length, and an agent's can be played."""
        shop, alice = self.talking()
        shop.frame.get_by_role("button", name="Record a voice message").click()
        expect(shop.frame.get_by_role("timer")).to_have_text(RECORDING)
        self.picture(shop.page, "widget-recording")
        shop.frame.get_by_role("button", name="Send the recording").click()
        sent = alice.push(32399, lambda data: data["message_info"]["file_type"] == 2)["message_info"]["msg"]
        self.assertGreaterEqual(sent["duration_ms"], 500)
        shop.log.get_by_role("button", name="Play").click()
        expect(shop.log.get_by_role("button", name="Pause")).to_be_visible()

    def test_file(self) -> None:
        """A document arrives with its name and size; one that the server refuses says why, and can be removed."""
        shop, alice = self.talking()
        chooser = shop.frame.locator("input[type=file]")
        chooser.set_input_files(
            {"name": "发票.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4\n" + b"x" * 3000}
        )
        sent = alice.push(32399, lambda data: data["message_info"]["file_type"] == 6)["message_info"]["msg"]
        self.assertEqual((sent["name"], sent["size"]), ("发票.pdf", 3009))
        expect(shop.log.get_by_role("link", name="发票.pdf")).to_be_visible()
        self.expect_trouble("status of 4")
        chooser.set_input_files({"name": "page.svg", "mimeType": "image/svg+xml", "buffer": b""})
        expect(shop.log.get_by_role("alert")).to_be_visible()
        shop.log.get_by_role("button", name="Remove").click()
        expect(shop.log.get_by_role("alert")).to_have_count(0)
