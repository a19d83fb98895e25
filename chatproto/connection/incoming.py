"""The short way in: what nearly all frames of clients are, small whole texts, without Autobahn's state machine.

Only what is certainly right is taken here. Everything else is left where it is, and Autobahn accepts it or says
what is wrong with it.
"""

from __future__ import annotations

from struct import Struct

from chatproto.connection.outgoing import TEXT

_head = Struct("!BBH").unpack_from
_number = int.from_bytes

# Larger ones are unmasked faster by Autobahn's C code, for all its overhead.
MOST = 2048


def next_text(data: bytes, at: int) -> tuple[bytes, int] | None:
    """The whole, masked, unfragmented, non-empty text frame that begins at *at*.

    :returns: the payload, valid UTF-8 of at most :data:`MOST` bytes, and where the next frame begins; None for
        anything else, be it wrong, of another kind or not all there.
    """
    end = len(data)
    if end - at < 7:
        return None
    first, second, size = _head(data, at)
    start = at + 8
    if first != TEXT:
        return None
    if second != 0xFE:
        size = second - 0x80
        start = at + 6
        if not 0 < size < 126:
            return None
    elif not 126 <= size <= MOST:
        return None
    stop = start + size
    if stop > end:
        return None
    key = _number((data[start - 4 : start] * (size // 4 + 1))[:size], "little")
    payload = (_number(data[start:stop], "little") ^ key).to_bytes(size, "little")
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError:
            return None
    return payload, stop
