"""A server that echoes, for the suites that test WebSocket itself.

    python -m tests.conformance.echo --port 9001

Everything below the messages is the daemon's: :class:`EchoFactory` is its factory with its options, its heartbeat
runs; only who receives a message is another.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from chatproto.config import load
from chatproto.connection.heartbeat import Heartbeat
from chatproto.connection.protocol import ChatFactory, ChatProtocol
from chatproto.connection.state import ConnectionState, Link, Phase

BINARY = 2


class EchoReception:
    """Sends every text back; nobody has to log in."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.ended: list[int | None] = []

    def opened(self, link: Link, address: str) -> ConnectionState:
        connection = ConnectionState("echo", link, address, self._clock.seconds())
        connection.phase = Phase.GUEST
        return connection

    def text(self, connection: ConnectionState, payload: bytes) -> None:
        connection.link.send(payload)

    def binary(self, connection: ConnectionState) -> None:
        """Never called: :class:`EchoProtocol` has echoed it."""
        raise AssertionError

    def frame(self, connection: ConnectionState) -> None: ...

    def drained(self, connection: ConnectionState) -> None: ...

    def closed(self, connection: ConnectionState, code: int | None, reason: str) -> None:
        self.ended.append(code)


class EchoProtocol(ChatProtocol):
    """Echoes binary messages too, of which the product has none."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if not isBinary:
            super().onMessage(payload, isBinary)
        elif self.state == self.STATE_OPEN:
            self.sendFrame(opcode=BINARY, payload=payload)


class EchoFactory(ChatFactory):
    protocol = EchoProtocol


def main() -> None:
    from twisted.internet import reactor

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0, help="0: a free one; it is printed")
    parser.add_argument("--max-frame", type=int, default=None, help="bytes; the daemon's default without")
    arguments = parser.parse_args()
    clock: Any = reactor
    config = load({}, {}, Path.cwd())
    if arguments.max_frame is not None:
        config = replace(config, max_frame=arguments.max_frame)
    factory = EchoFactory(config, EchoReception(clock), clock)
    heartbeat = Heartbeat(clock, factory.connections, config)
    heartbeat.start()
    port = clock.listenTCP(arguments.port, factory, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    clock.run()


if __name__ == "__main__":
    main()
