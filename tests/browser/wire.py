"""The way of a page to the server, which a test can spoil."""

from __future__ import annotations

import json

from playwright.sync_api import Page, WebSocketRoute

SENDS = (22300, 32300)


class Wire:
    """All WebSockets of a page. It works while Playwright waits for something, and not while a plain WebSocket does.

    :ivar tried: how many the page has begun; *opened* those that reached the server, of which *route* is the newest.
    :ivar sent: how many messages have left the page.
    :ivar cut_after: numbers of messages that arrive, while the connection is gone before the answer.
    :ivar loses: frames with this text do not arrive at the page; *lost* counts them.
    """

    route: WebSocketRoute

    def __init__(self, page: Page) -> None:
        self._page = page
        self._dead = 0
        self._away = False
        self.tried = self.opened = self.sent = self.lost = 0
        self.cut_after: set[int] = set()
        self.loses = ""
        page.route_web_socket(lambda url: True, self._connect)

    def go_dead(self) -> None:
        """What is open now swallows everything, without being closed."""
        self._dead = self.opened

    def go_away(self) -> None:
        """What is open is cut, and nothing opens until :meth:`come_back`."""
        self._away = True
        if self.opened:
            self.route.close(code=4002)

    def enter_tunnel(self) -> None:
        """What is open is dead, nothing opens, and the browser knows it: by itself it would close nothing."""
        self.go_dead()
        self._away = True
        self._page.context.set_offline(True)

    def come_back(self) -> None:
        self._away = False
        self._page.context.set_offline(False)

    def _connect(self, route: WebSocketRoute) -> None:
        self.tried += 1
        if self._away:
            route.close(code=4002)
            return
        self.opened += 1
        self.route = route
        number = self.opened
        server = route.connect_to_server()

        def up(message: str | bytes) -> None:
            if number <= self._dead:
                return
            server.send(message)
            if json.loads(message).get("api_key") in SENDS:
                self.sent += 1
                if self.sent in self.cut_after:
                    route.close(code=4002)

        def down(message: str | bytes) -> None:
            if self.loses and self.loses in str(message):
                self.lost += 1
            elif number > self._dead:
                route.send(message)

        route.on_message(up)
        server.on_message(down)


class ServerClock:
    """The server's time as a page is told it, which passes as quickly as the test makes the page's.

    As a :class:`Wire`, it works while Playwright waits for something.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self._ahead = 0
        page.route_web_socket(lambda url: True, self._connect)

    def pass_by(self, seconds: int) -> None:
        self._ahead += seconds
        self._page.clock.fast_forward(seconds * 1000)

    def _connect(self, route: WebSocketRoute) -> None:
        def down(message: str | bytes) -> None:
            frame = json.loads(message)
            if "server_time" in frame["data"]:
                frame["data"]["server_time"] += self._ahead * 1000
            route.send(json.dumps(frame))

        server = route.connect_to_server()
        route.on_message(server.send)
        server.on_message(down)
