"""A socket of the tests' own, for what no decent client does. Every method blocks, but not for ever."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

import orjson

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def handshake(headers: Mapping[str, str] | None = None) -> bytes:
    """The request for a WebSocket connection (RFC 6455, 4.1)."""
    fields = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        **(headers or {}),
    }
    lines = ["GET / HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode()


def frame(payload: bytes, first: int = 0x81, masked: bool = True) -> bytes:
    """One frame (RFC 6455, 5.2).

    :param first: FIN and opcode.
    """
    size = len(payload)
    bit = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 0x10000:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if not masked:
        return head + payload
    # A mask of zeros is a mask, and leaves the payload as it is.
    return head + bytes(4) + payload


class RawClient:
    """One TCP connection.

    :param room: bytes that the kernel may keep of what is not read; None is its own idea.
    """

    def __init__(self, port: int, room: int | None = None, patience: float = 10.0) -> None:
        self.socket = socket.socket()
        if room is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.settimeout(patience)
        self.socket.connect(("127.0.0.1", port))
        self._unread = b""

    def open(self, headers: Mapping[str, str] | None = None) -> RawClient:
        self.socket.sendall(handshake(headers))
        status = self.head()
        if not status.startswith("HTTP/1.1 101"):
            raise AssertionError(status)
        return self

    def head(self) -> str:
        """The header of an HTTP answer; "" where there is none."""
        while b"\r\n\r\n" not in self._unread:
            if not self._more():
                return ""
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        return head.decode()

    def send(self, **request: Any) -> None:
        self.socket.sendall(frame(orjson.dumps(request)))

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request; returns the next text frame."""
        self.send(**request)
        opcode, payload = self.next()
        if opcode != 1:
            raise AssertionError((opcode, payload))
        return dict(orjson.loads(payload))

    def next(self) -> tuple[int, bytes]:
        """(opcode, payload) of the next frame; (8, b"") where the connection ended without one."""
        head = self.take(2)
        if len(head) < 2:
            return 8, b""
        size = head[1] & 127
        if size == 126:
            [size] = struct.unpack("!H", self.take(2))
        elif size == 127:
            [size] = struct.unpack("!Q", self.take(8))
        return head[0] & 15, self.take(size)

    def close_code(self) -> int | None:
        """Read to the end: the code of the close frame, None where there was none."""
        while True:
            opcode, payload = self.next()
            if opcode == 8:
                return int(struct.unpack("!H", payload[:2])[0]) if payload else None

    def stuff(self, payload: bytes, most: int) -> int:
        """Write *payload* again and again until the peer takes no more for a second, or it took *most* bytes."""
        self.socket.settimeout(1.0)
        written = 0
        rest = b""
        try:
            while written < most:
                rest = rest or payload
                count = self.socket.send(rest)
                rest = rest[count:]
                written += count
        except TimeoutError:
            pass
        return written

    def drip(self, data: bytes) -> bool:
        """Write byte after byte, a hundred a second; returns whether the peer has ended the connection meanwhile."""
        self.socket.settimeout(0.01)
        for octet in data:
            try:
                self.socket.sendall(bytes((octet,)))
                if not self.socket.recv(65536):
                    return True
            except TimeoutError:
                continue
            except OSError:
                return True
        self.socket.settimeout(10.0)
        return not self.socket.recv(65536)

    def close(self) -> None:
        self.socket.close()

    def take(self, size: int) -> bytes:
        """So many bytes, or what came before the end."""
        while len(self._unread) < size and self._more():
            pass
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self._unread += data
        return bool(data)


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
