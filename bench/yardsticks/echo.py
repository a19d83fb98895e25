"""A plain Autobahn server that sends back what it gets: what the WebSocket alone costs.

    python -m bench.yardsticks.echo PORT

Autobahn as it comes, but for TCP_NODELAY: without, whole windows would wait for delayed acknowledgements of TCP.
"""

from __future__ import annotations

import sys
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol


class Echo(WebSocketServerProtocol):
    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.setTcpNoDelay(True)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)


def main(port: int) -> None:
    from twisted.internet import reactor as installed

    reactor: Any = installed
    factory = WebSocketServerFactory()
    factory.protocol = Echo
    reactor.listenTCP(port, factory, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
