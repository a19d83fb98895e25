"""Clients that behave as the load generator's never do: they leave in bad ways, do not read, or do not even begin.

Few of them are busy at a time, so that plain sockets and one thread that answers pings are enough.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable

from bench.errors import BenchError
from bench.people import handshake, source_address

PATIENCE = 30.0
"""Seconds that a server may take for a handshake or a login."""

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_READ = 1 << 18


def dial(port: int, place: int, room: int | None = None) -> socket.socket:
    """Begin to connect from the address of *place* (bench.people.source_address), without waiting for the end of it.

    :param room: bytes that the kernel may keep of what is not read; None is its own idea.
    """
    found = socket.socket()
    found.setblocking(False)
    if room is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    found.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: as many ports as there are peers
    found.bind((source_address(place), 0))
    found.connect_ex(("127.0.0.1", port))
    return found


def frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """A whole frame of a client (RFC 6455, 5.2). A mask of zeros is a mask."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 0x10000:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
    return head + bytes(4) + payload


def request(port: int) -> bytes:
    """The whole request of a handshake."""
    return handshake(port).encode() + b"Sec-WebSocket-Key: " + b"A" * 22 + b"==\r\n\r\n"


class Inbox:
    """Takes a server's bytes apart.

    :ivar texts: the payloads of text frames that nobody has taken yet, if *keeps*.
    :ivar ended: a close frame came.
    :ivar closing: a close frame was sent.
    """

    def __init__(self, keeps: bool = False) -> None:
        self.keeps = keeps
        self.texts: list[bytes] = []
        self.ended = self.closing = False
        self._data = b""

    def take(self, data: bytes) -> bytes:
        """:returns: what has to be answered: pings, and the close frame."""
        self._data += data
        answers, at = b"", 0
        while (found := self._next(at)) is not None:
            opcode, payload, at = found
            if opcode == _PING:
                answers += frame(payload, _PONG)
            elif opcode == _CLOSE:
                self.ended = True
                if not self.closing:
                    self.closing = True
                    answers += frame(payload[:2], _CLOSE)
            elif opcode == _TEXT and self.keeps:
                self.texts.append(payload)
        self._data = self._data[at:]
        return answers

    def _next(self, at: int) -> tuple[int, bytes, int] | None:
        data = self._data
        if len(data) < at + 2:
            return None
        start, size = at + 2, data[at + 1] & 127
        if size >= 126:
            wide = 2 if size == 126 else 8
            start += wide
            if len(data) < start:
                return None
            size = int.from_bytes(data[start - wide : start], "big")
        return None if len(data) < start + size else (data[at] & 15, data[start : start + size], start + size)


class Peer:
    """One connection that is logged in.

    :param login: the frame.
    :raises BenchError: it does not come to that.
    """

    def __init__(self, port: int, place: int, login: str, room: int | None = None) -> None:
        self.socket = dial(port, place, room)
        self.inbox = Inbox(keeps=True)
        self.socket.settimeout(PATIENCE)
        try:
            self._await_connect()
            self.socket.sendall(request(port))
            self._shake_hands()
            self.socket.sendall(frame(login.encode()))
            reply = self._reply(json.loads(login)["api_key"])
        except OSError as error:
            self.socket.close()
            raise BenchError(f"a peer cannot connect: {error}") from None
        except BenchError:
            self.socket.close()
            raise
        if reply["code"] != 200:
            self.socket.close()
            raise BenchError(f"a peer cannot log in: {reply}")
        self.socket.settimeout(None)
        self.socket.setblocking(False)
        self.inbox.keeps = False
        self.inbox.texts.clear()

    def _await_connect(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_WRITE)
            if not selector.select(PATIENCE):
                raise TimeoutError("connect")

    def _shake_hands(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._more()
        head, _, rest = head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise BenchError(f"a peer's handshake: {head[:60]!r}")
        self.socket.sendall(self.inbox.take(rest))

    def _reply(self, api_key: int) -> dict[str, object]:
        while True:
            for text in self.inbox.texts:
                found = json.loads(text)
                if found["api_key"] == api_key:
                    return dict(found)
            self.inbox.texts.clear()
            self.socket.sendall(self.inbox.take(self._more()))

    def _more(self) -> bytes:
        data = self.socket.recv(_READ)
        if not data or self.inbox.ended:
            raise BenchError("a peer was closed before it was logged in")
        return data

    # Ways to leave.

    def say(self, **fields: object) -> None:
        """Send a request whose reply nobody waits for."""
        self.socket.send(frame(json.dumps(fields).encode()))

    def close_in_order(self) -> None:
        """A close frame, as a browser sends it when its page goes; the server ends the connection."""
        self.inbox.closing = True
        self.socket.send(frame(struct.pack("!H", 1001), _CLOSE))

    def reset(self) -> None:
        """As when a machine is switched off and on again."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Company:
    """A thread that reads what comes for those who are added, and answers pings, until :meth:`close`.

    :param gone: called, in that thread, with each one that the server has ended.
    """

    def __init__(self, gone: Callable[[Peer], None]) -> None:
        self._gone = gone
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._wake, self._woken = os.pipe()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="company", daemon=True)
        self._thread.start()

    def add(self, peer: Peer) -> None:
        with self._lock:
            self._selector.register(peer.socket, selectors.EVENT_READ, peer)

    def remove(self, peer: Peer) -> bool:
        """Read and answer no more for it; False: it has gone already."""
        with self._lock:
            try:
                self._selector.unregister(peer.socket)
            except (KeyError, ValueError):
                return False
            return True

    def close(self) -> None:
        """Leave everybody who is still there by closing the sockets."""
        self._closing = True
        os.write(self._woken, b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, Peer):
                key.data.socket.close()
        self._selector.close()
        os.close(self._wake)
        os.close(self._woken)

    def _run(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select():
                if isinstance(key.data, Peer):
                    with self._lock:
                        over = key.fd in self._selector.get_map() and self._read(key.data)
                    if over:
                        self._gone(key.data)

    def _read(self, peer: Peer) -> bool:
        """:returns: whether that was its end."""
        try:
            data = peer.socket.recv(_READ)
            if data:
                answers = peer.inbox.take(data)
                if answers:
                    peer.socket.send(answers)
                return False
        except BlockingIOError:
            return False
        except OSError:
            pass
        self._selector.unregister(peer.socket)
        peer.socket.close()
        return True
