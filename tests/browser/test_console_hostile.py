"""What others write reaches an agent as text: no field of it becomes markup, a script, or an address that runs one."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from typing import Any

from playwright.sync_api import Error, Page, expect

from tests.browser.case import BrowserTestCase
from tests.browser.shop import Agent
from tests.integration.daemon import token

EVIL = '<img src=x onerror="top.pwned=1"><script>top.pwned=1</script>'
LINKS = (
    "javascript:top.pwned=1",
    " JaVaScRiPt:top.pwned=1",
    "java\nscript:top.pwned=1",
    "data:text/html,<script>opener.pwned=1</script>",
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' onload='top.pwned=1'/>",
    "blob:https://evil.example/7",
    "vbscript:top.pwned=1",
    'https://evil.example/" onmouseover="top.pwned=1',
)
ELEMENT = {"type": "img", "props": {"src": "x", "onerror": "top.pwned=1"}, "constructor": None, "__html": EVIL}


class HostileTests(BrowserTestCase):
    """A violation of the policy would be written to the page's console, and so fails each of these, too."""

    def desk(self, name: str = "Alice", **options: Any) -> Page:
        return self.console(self.add_admin(name), **options)

    def assertHarmless(self, desk: Page) -> None:
        """Nothing of others has run, or could if somebody clicked on it."""
        self.assertIsNone(desk.evaluate("window.pwned ?? null"))
        self.assertEqual(desk.locator("[onerror], [onload], [onmouseover], [onclick], body script, iframe").count(), 0)
        links = desk.eval_on_selector_all(
            "a, area", "all => all.map((one) => [one.getAttribute('href'), one.rel, one.target])"
        )
        for href, rel, target in links:
            self.assertRegex(href, r"^https?://")
            self.assertIn("noopener", rel)
            self.assertEqual(target, "_blank")
        foreign = "all => all.map(one => one.src).filter(src => src && !src.startsWith(location.origin))"
        self.assertEqual(desk.eval_on_selector_all("img, video, audio, source, embed, object", foreign), [])

    def test_guest(self) -> None:
        """What a guest puts into name, picture, profile, page, product, order and any message is only shown."""
        desk = self.desk()
        gina = self.guest(EVIL, avatar=LINKS[0], profile={EVIL: EVIL, "link": LINKS[0], "deep": {"x": [EVIL]}})
        card = {"id": EVIL, "title": EVIL, "price": EVIL, "currency": EVIL, "status": EVIL, "total": {"x": EVIL}}
        gina.say(EVIL)
        for link in LINKS:
            gina.say(f"look: {link}")
            for file_type in (1, 2, 5, 6):
                gina.say(
                    {"url": link, "thumb": link, "poster": link, "name": EVIL, "size": EVIL, "duration_ms": EVIL},
                    file_type,
                )
                gina.say(link, file_type)
            for file_type in (3, 4):
                gina.say({**card, "url": link, "image": link}, file_type)
        for file_type in range(1, 7):
            gina.say(EVIL, file_type)
            gina.say(ELEMENT, file_type)
            gina.say({"url": [LINKS[0]], "title": {"toString": EVIL}, "id": [1], "name": None}, file_type)
            gina.say({"url": ELEMENT, "title": ELEMENT, "id": ELEMENT, "name": ELEMENT}, file_type)
        last = gina.say("the last one")
        desk.get_by_role("button", name="<img").click()
        log = desk.get_by_role("log")
        expect(log.get_by_text("the last one")).to_be_visible()
        while desk.locator(".bubble").count() < last["seq"]:
            log.evaluate("log => { log.scrollTop = 0; }")
            expect(log).to_have_attribute("aria-busy", "false")
        panel = desk.get_by_role("complementary")
        for link in LINKS:
            gina.ask(
                22600,
                context={
                    "page_url": link,
                    "title": EVIL,
                    "referrer": link,
                    "product": {**card, "title": f"{EVIL} {link}", "url": link, "image": link},
                    "order": {**card, "url": link, "image": link, "items": EVIL},
                },
            )
            expect(panel.get_by_text(f"{EVIL} {link}".replace("\n", " "))).to_be_visible()
            self.assertHarmless(desk)
        gina.ask(22600, context={"page_url": "", "title": EVIL, "product": ELEMENT, "order": ELEMENT})
        expect(panel.get_by_text(f"{EVIL} {LINKS[-1]}")).to_have_count(0)
        expect(panel.get_by_text(EVIL).first).to_be_visible()
        # What is no link does nothing, either, when it is clicked.
        for shown in (*log.locator(".bubble").all()[:12], panel.locator("dd").first):
            if not shown.locator("a").count():
                shown.click()
        desk.get_by_role("button", name="End").click()
        expect(desk.get_by_role("heading", name=f"End the service with {EVIL}?")).to_be_visible()
        self.assertHarmless(desk)
        self.assertEqual(len(desk.context.pages), 1)

    def test_colleagues(self) -> None:
        """Names and pictures of colleagues and the group, and notes to a transfer, are shown as they were written."""
        self.server.daemon.sql("UPDATE service_group SET name = %s WHERE id = %s", EVIL, self.group_id)
        mallory = self.add_admin(EVIL)
        self.server.daemon.sql("UPDATE admin SET avatar = %s WHERE id = %s", LINKS[0], mallory)
        agent = Agent(self.server, mallory)
        self.addCleanup(agent.close)
        gina = self.guest()
        gina.say("Hello")
        agent.meet()
        agent.say(EVIL)
        alice = self.add_admin(f"{EVIL} Alice")
        self.server.daemon.sql("UPDATE admin SET avatar = %s WHERE id = %s", LINKS[4], alice)
        desk = self.console(alice)
        expect(desk.locator(".me-name")).to_have_text(f"{EVIL} Alice")
        agent.ask(32400, gid=agent.gid, aix=alice, note=f"{EVIL} {LINKS[0]}")
        desk.get_by_role("button", name="Gina").click()
        log = desk.get_by_role("log")
        expect(log.get_by_text(f"{EVIL} handed this guest over: {EVIL} {LINKS[0]}")).to_be_visible()
        expect(log.locator(".who").get_by_text(EVIL)).to_be_visible()
        self.assertHarmless(desk)
        desk.get_by_role("button", name="Transfer").click()
        dialog = desk.get_by_role("dialog")
        dialog.get_by_role("radio", name=EVIL).check()
        dialog.get_by_role("textbox").fill(EVIL)
        self.assertHarmless(desk)
        dialog.get_by_role("button", name="Transfer").click()
        expect(desk.get_by_text(f"Transferred to {EVIL}.")).to_be_visible()
        self.assertEqual(agent.push(32401)["data"]["note"], EVIL)
        self.assertHarmless(desk)

    def upload(self, guest: str, name: str, content: bytes, kind: str) -> dict[str, Any]:
        """What the server says of a file of this guest."""
        key = token(sub=f"{self.group_id} {guest}", group_id=self.group_id)
        fields = {"Authorization": f"Bearer {key}", "X-File-Name": urllib.parse.quote(name), "Content-Type": kind}
        with urllib.request.urlopen(urllib.request.Request(f"{self.origin}/files", content, fields)) as answer:
            return dict(json.load(answer))

    def test_files(self) -> None:
        """A page or drawing with a script in it is a file to download, whatever it calls itself, and never a page."""
        desk = self.desk()
        gina = self.guest()
        page = f"<!doctype html><script>top.pwned = opener.pwned = 1</script>{EVIL}".encode()
        drawing = b"<svg xmlns='http://www.w3.org/2000/svg'><script>top.pwned=1</script></svg>"
        names: list[str] = []
        for name, content, kind, file_type in (
            (f"{EVIL}.html", page, "text/html", 6),
            ("lamp.svg", drawing, "image/svg+xml", 1),
            ("lamp.png", page, "image/png", 1),
            ("voice.webm", page, "audio/webm", 2),
            ("lamp.mp4", drawing, "video/mp4", 5),
        ):
            told = self.upload("Gina", name, content, kind)
            self.assertEqual(told["kind"], "file")
            names.append(told["name"])
            # The guest says of the file what suits the attack, not what the server said of it.
            gina.say({**told, "thumb": told["url"], "poster": told["url"], "duration_ms": 1000}, file_type)
            other = self.page(desk.context)
            with self.assertRaisesRegex(Error, "Download is starting"):
                other.goto(told["url"])
            self.assertEqual(other.url, "about:blank")
            other.close()
        gina.say("the last one")
        desk.get_by_role("button", name="Gina").click()
        log = desk.get_by_role("log")
        expect(log.get_by_text("the last one")).to_be_visible()
        expect(log.locator("a.card").first).to_contain_text(names[0])
        # What was to be a picture shows none, but a link to download it.
        expect(log.locator(".picture img")).to_have_count(0)
        expect(log.locator("a.card")).to_have_count(3)
        self.assertHarmless(desk)

    def test_own_card(self) -> None:
        """The form for a card takes no address that is not http or https, so that no agent is made to send one."""
        desk = self.desk()
        gina = self.guest()
        gina.say("Which one?")
        desk.get_by_role("button", name="Gina").click()
        dialog = desk.get_by_role("dialog")
        for button in ("Product card", "Order card"):
            desk.get_by_role("button", name=button).click()
            dialog.get_by_label("Number").fill("7")
            dialog.get_by_label("Title").fill(EVIL)
            for label in ("Link", "Picture"):
                for link in LINKS[:-1]:
                    dialog.get_by_label(label).fill(link)
                    self.assertFalse(dialog.get_by_label(label).evaluate("field => field.validity.valid"), link)
                dialog.get_by_role("button", name="Send").click()
                expect(dialog).to_be_visible()
                dialog.get_by_label(label).fill("https://shop.example/7")
            dialog.get_by_role("button", name="Send").click()
            self.assertEqual(
                gina.push(22399)["message_info"]["msg"],
                {"id": "7", "title": EVIL, "url": "https://shop.example/7", "image": "https://shop.example/7"},
            )
        self.assertHarmless(desk)

    def test_address(self) -> None:
        """What somebody writes into a link to the console does nothing there."""
        desk = self.desk()
        for part in (f"#/{EVIL}", f"#token={EVIL}", f"#/1{EVIL}", f"?x={EVIL}#/javascript:top.pwned=1"):
            desk.goto("about:blank")
            desk.goto(f"{self.origin}/console/{part}")
            expect(desk.get_by_text("Choose a chat")).to_be_visible()
            desk.get_by_placeholder("Find a guest").fill(EVIL)
            expect(desk.get_by_text("No guest of this name.")).to_be_visible()
            self.assertHarmless(desk)

    def test_long(self) -> None:
        """A message as long as allowed, without a single space, breaks neither the page nor its width."""
        desk = self.desk(viewport={"width": 390, "height": 844})
        self.guest("W" * 100).say("W" * 5000)
        desk.locator(".chat-row").click()
        expect(desk.locator(".bubble")).to_be_visible()
        wide = "({scrollWidth, clientWidth}) => scrollWidth - clientWidth"
        self.assertEqual(desk.evaluate(f"({wide})(document.documentElement)"), 0)
        self.assertEqual(desk.locator(".log").evaluate(wide), 0)
