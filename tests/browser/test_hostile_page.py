"""What a shop's page that means harm, or was broken into, can make of the panel."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.case import BrowserTestCase

# Structured clones keep what JSON cannot say: a member that is there and undefined, by which Preact knows its own.
_SPEAK = """async () => {
  const element = (type, props) => ({ type, props, constructor: undefined, __v: 0, __i: -1, __u: 0 });
  const frame = document.createElement('iframe');
  frame.src = '/frame';
  document.body.append(frame);
  await new Promise((done) => { frame.onload = done; });
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = ({ data: [name] }) => name === 'login' && port1.postMessage(['credentials']);
  const chatproto = {
    locale: 'en', group: GROUP, context: {}, mark: {}, outbox: {},
    title: element('marquee', { children: 'forged' }),
    greeting: element('marquee', { dangerouslySetInnerHTML: { __html: '<form>forged</form>' } }),
  };
  frame.contentWindow.postMessage({ chatproto }, '*', [port2]);
}"""


class ElementsTests(BrowserTestCase):
    def test_no_elements(self) -> None:
        """What it says to the panel is text there: it brings no elements onto the origin of the agents' console."""
        page = self.person()
        page.goto(f"{self.origin}/console/")
        page.evaluate(_SPEAK.replace("GROUP", str(self.group_id)))
        panel = page.frame_locator("iframe")
        expect(panel.get_by_role("textbox")).to_be_visible()
        expect(panel.locator(".hello")).to_be_visible()
        expect(panel.locator("marquee")).to_have_count(0)
