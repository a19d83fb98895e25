"""What a guest notices of bad links, servers that go, and messages that mean harm: as little as possible."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.server import Server, wait_until
from tests.browser.shop import WidgetTestCase, options, shop_origin
from tests.browser.wire import Wire

SEND = 22300
EVIL = '<img src=x onerror="parent.hacked=1"><script>parent.hacked=1</script>'


class LinkTests(WidgetTestCase):
    def test_cut(self) -> None:
        """Ten messages over a link that is cut three times arrive once each, in the order of writing."""
        alice = self.agent()
        page = self.person()
        wire = Wire(page)
        wire.cut_after = {2, 4, 7}
        shop = self.visit(page).open()
        lines = [f"Line {number}" for number in range(10)]
        for line in lines:
            shop.write(line)
        expect(shop.log.locator(".bubble")).to_have_count(10)
        expect(shop.log.get_by_text("Sending…")).to_have_count(0, timeout=30_000)
        alice.meet()
        self.assertEqual([one["msg"] for one in alice.thread()], lines)
        self.assertEqual(shop.log.locator(".bubble").all_inner_texts(), lines)

    def test_half_dead(self) -> None:
        """A link that swallows everything is noticed, and what was written over it is sent over another."""
        alice = self.agent()
        page = self.person()
        wire = Wire(page)
        shop = self.visit(page).open()
        expect(shop.frame.get_by_text("How can we help?")).to_be_visible()
        wire.go_dead()
        shop.write("Can you hear me?")
        expect(shop.log.get_by_text("Sending…")).to_have_count(0, timeout=30_000)
        alice.meet()
        self.assertEqual([one["msg"] for one in alice.thread()], ["Can you hear me?"])
        self.assertEqual(wire.opened, 2)

    def test_no_network(self) -> None:
        """Without a network the panel says so; it goes on when that is back, and what was written arrives once."""
        self.expect_trouble()
        alice = self.agent()
        page = self.person()
        page.clock.install()
        wire = Wire(page)
        shop = self.visit(page).open()
        shop.write("Before")
        expect(shop.bubble("Before")).to_be_visible()
        expect(shop.log.get_by_text("Sending…")).to_have_count(0)
        alice.meet()
        # From here on no timer of the page's rings by itself, and so none can be what connects again.
        page.clock.pause_at(page.evaluate("Date.now()") + 1000)
        page.context.set_offline(True)
        wire.go_away()
        shop.write("Without a network")
        banner = shop.frame.get_by_text("No connection", exact=False)
        expect(banner).to_be_hidden()
        page.clock.run_for(4000)
        expect(banner).to_be_visible()
        expect(shop.log.get_by_text("Sending…")).to_be_visible()
        wire.come_back()
        expect(banner).to_be_hidden()
        expect(shop.log.get_by_text("Sending…")).to_have_count(0)
        alice.heard("Without a network")
        self.assertEqual([one["msg"] for one in alice.thread()], ["Before", "Without a network"])
        self.assertEqual((wire.opened, wire.sent), (2, 2))

    def test_no_storage(self) -> None:
        """Where the browser forbids storage, the conversation lasts as long as the page, also over a lost link."""
        alice = self.agent()
        page = self.person()
        forbidden = "{get() { throw new DOMException('forbidden', 'SecurityError'); }}"
        for name in ("localStorage", "sessionStorage"):
            page.add_init_script(f"Object.defineProperty(window, '{name}', {forbidden})")
        wire = Wire(page)
        wire.cut_after = {1}
        shop = self.visit(page).open()
        shop.write("One")
        shop.write("Two")
        expect(shop.log.locator(".bubble")).to_have_count(2)
        expect(shop.log.get_by_text("Sending…")).to_have_count(0, timeout=30_000)
        alice.meet()
        self.assertEqual([one["msg"] for one in alice.thread()], ["One", "Two"])
        self.assertEqual(wire.opened, 2)

    def test_reload(self) -> None:
        """Who goes to another page finds the panel open, with the conversation and what was half written."""
        alice = self.agent()
        shop = self.visit().open()
        shop.write("Hello")
        alice.meet()
        alice.say("Hi")
        expect(shop.bubble("Hi")).to_be_visible()
        shop.box.fill("Half a sent")
        wait_until(lambda: "Half a sent" in "".join(shop.kept().values()), "the draft")
        shop.page.reload()
        expect(shop.bubble("Hello")).to_be_visible()
        expect(shop.bubble("Hi")).to_have_count(1)
        expect(shop.box).to_have_value("Half a sent")

    def test_composing(self) -> None:
        """Enter chooses a word while an input method composes, and sends only afterwards."""
        self.agent()
        shop = self.visit().open()
        shop.box.focus()
        enter = (
            """(box, how) => box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, ...how}))"""
        )
        shop.box.fill("nihao")
        shop.box.evaluate(enter, {"isComposing": True})
        shop.box.evaluate(enter, {"keyCode": 229})
        shop.box.evaluate(
            "(box) => box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', isComposing: true}))"
        )
        expect(shop.box).to_have_value("nihao")
        expect(shop.panel).to_be_visible()
        shop.box.fill("你好")
        shop.box.press("Enter")
        expect(shop.bubble("你好")).to_be_visible()
        expect(shop.log.locator(".bubble")).to_have_count(1)

    def test_input_method(self) -> None:
        """With an input method of the system: Enter while it composes sends nothing, the next one sends once."""
        alice = self.agent()
        shop = self.visit(lang="zh-CN").open()
        keys = shop.page.context.new_cdp_session(shop.page)
        shop.box.focus()
        for spelled in ("n", "ni", "nihao"):
            keys.send(
                "Input.imeSetComposition",
                {"text": spelled, "selectionStart": len(spelled), "selectionEnd": len(spelled)},
            )
        expect(shop.box).to_have_value("nihao")
        shop.box.evaluate("(box) => box.addEventListener('keydown', (key) => box.dataset.composing = key.isComposing)")
        # As the system tells it: the key belongs to the input method, and so brings no line break.
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
        keys.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
        keys.send("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
        expect(shop.box).to_have_attribute("data-composing", "true")
        expect(shop.log.locator(".bubble")).to_have_count(0)
        keys.send("Input.insertText", {"text": "你好"})
        expect(shop.box).to_have_value("你好")
        shop.page.keyboard.press("Enter")
        alice.meet()
        expect(shop.log.locator(".bubble")).to_have_text(["你好"])
        expect(shop.box).to_have_value("")
        self.assertEqual([one["msg"] for one in alice.thread()], ["你好"])


class RestartTests(WidgetTestCase):
    def make_server(self) -> Server:
        server = Server(*options()).start()
        self.addCleanup(server.close)
        return server

    def test_killed(self) -> None:
        """What is written while the server is gone arrives once, in order, even from the next page."""
        self.expect_trouble()
        self.agent()
        shop = self.visit().open()
        shop.write("Before")
        expect(shop.log.get_by_text("Sending…")).to_have_count(0)
        self.server.kill()
        shop.write("Without a server")
        shop.write("And another")
        expect(shop.frame.get_by_text("No connection", exact=False)).to_be_visible()
        self.picture(shop.page, "widget-offline")
        self.check(shop.page)
        context = shop.page.context
        shop.page.close()
        self.server.start_again()
        alice = self.agent("Bob")
        shop = self.visit(self.page(context)).open()
        expect(shop.bubble("Before")).to_be_visible()
        expect(shop.log.get_by_text("Sending…")).to_have_count(0)
        self.assertEqual(shop.log.locator(".bubble").all_inner_texts(), ["Before", "Without a server", "And another"])
        self.server.kill()
        self.server.start_again()
        shop.write("After")
        expect(shop.bubble("After")).to_be_visible()
        expect(shop.log.get_by_text("Sending…")).to_have_count(0)
        alice.close()
        [(gid,)] = self.server.daemon.sql("SELECT guest_id FROM conversation")
        bob = self.agent("Eve")
        bob.gid = gid
        expected = ["Before", "Without a server", "And another", "After"]
        self.assertEqual([one["msg"] for one in bob.thread()], expected)

    def test_unreachable(self) -> None:
        """Where the chat's server is away when the panel is opened, the panel says so, and works when it is back."""
        self.expect_trouble()
        self.expect_trouble("Failed to execute 'postMessage'|refused to connect|Framing")
        shop = self.visit()
        self.server.kill()
        shop.launcher.click()
        expect(shop.panel.get_by_role("status")).to_have_text("The chat cannot be reached. Trying again…")
        self.server.start_again()
        shop.box.wait_for()
        shop.write("Hello")
        expect(shop.log.get_by_text("Sending…")).to_have_count(0)


class HostileTests(WidgetTestCase):
    def test_markup(self) -> None:
        """Markup in names, texts, cards, files, notes and contexts is text, and only http and https are links."""
        self.server.daemon.sql("UPDATE service_group SET name = %s WHERE id = %s", EVIL, self.group_id)
        alice = self.agent(EVIL[:90], avatar="javascript:parent.hacked=1")
        shop = self.visit(title=EVIL, greeting=EVIL, locale=EVIL, theme=EVIL, position=EVIL)
        shop.push("setContext", {"product": {"id": EVIL, "title": EVIL, "image": "javascript:parent.hacked=1"}})
        shop.open()
        shop.frame.locator(".offer").get_by_role("button", name="Send").click()
        alice.meet()
        shop.write(EVIL)
        link = "javascript:parent.hacked=1"
        alice.say(EVIL)
        alice.say(f"See {link} and data:text/html,{EVIL}")
        alice.say({"url": link, "thumb": link}, 1)
        alice.say({"url": link, "duration_ms": EVIL}, 2)
        alice.say({"id": EVIL, "title": EVIL, "url": link, "image": link, "price": EVIL, "currency": EVIL}, 3)
        alice.say({"id": EVIL, "title": EVIL, "url": link, "status": EVIL, "total": EVIL, "items": [EVIL]}, 4)
        alice.say({"url": link, "poster": link}, 5)
        alice.say({"url": f"{shop_origin()}/x", "name": EVIL, "size": EVIL}, 6)
        alice.say({"__proto__": {"x": 1}, "title": {"toString": 1}}, 3)
        alice.say({"url": "data:text/html," + EVIL, "name": EVIL, "size": 1}, 6)
        shop.frame.locator("input[type=file]").set_input_files(
            {"name": EVIL.replace("/", ""), "mimeType": "text/html", "buffer": EVIL.encode()}
        )
        alice.push(32399, lambda data: data["message_info"]["file_type"] == 6)
        # Handed over with a note, which is for the colleague, to one whose picture is a page.
        bob = self.agent(f"Bob {EVIL[:80]}", avatar="data:text/html,<script>parent.hacked=1</script>")
        alice.ask(32400, gid=alice.gid, aix=bob.admin_id, note=EVIL)
        expect(shop.log.get_by_text("has joined", exact=False).last).to_contain_text("Bob <img")
        bob.gid = alice.gid
        bob.say("The end")
        expect(shop.bubble("The end")).to_be_visible()
        self.picture(shop.page, "widget-hostile")
        self.assertEqual(shop.page.evaluate("window.hacked"), None)
        found = shop.log.locator("a").evaluate_all("(links) => links.map((link) => new URL(link.href).protocol)")
        self.assertEqual(set(found), {"http:"})
        self.assertEqual(shop.frame.locator("script").count(), 1)
        self.assertEqual(shop.frame.locator("[onerror]").count(), 0)
        self.assertEqual(shop.page.locator("[onerror]").count(), 0)
        shown = shop.frame.locator("img").evaluate_all("(all) => all.map(({src}) => new URL(src).protocol)")
        self.assertEqual(set(shown) - {"http:"}, set())

    def test_other_frames(self) -> None:
        """A page that may not show the panel cannot: the browser refuses."""
        self.expect_trouble("frame-ancestors|Framing")
        page = self.person()
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text))
        page.goto(f"http://other.localhost:{shop_origin().rsplit(':', 1)[1]}/?chat={self.chat}")
        page.locator("chatproto-widget button").click()
        wait_until(lambda: page.evaluate("1") and any("frame-ancestors" in line for line in refused), "the refusal")
        expect(page.frame_locator("chatproto-widget iframe").locator("textarea")).to_have_count(0)
