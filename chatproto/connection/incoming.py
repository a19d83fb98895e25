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


def texts(data: bytes, most: int) -> list[tuple[bytes, int]]:
    """The whole, masked, unfragmented, non-empty text frames that *data* begins with.

    :param most: how many are wanted.
    :returns: of each the payload, valid UTF-8 of at most :data:`MOST` bytes, and where the next frame begins. What
        stands there is anything else, be it wrong, of another kind or not all there.
    """
    found: list[tuple[bytes, int]] = []
    at, end = 0, len(data)
    while end - at >= 7 and len(found) < most:
        first, second, size = _head(data, at)
        if second == 0xFE:
            start = at + 8
            if not 126 <= size <= MOST:
                break
        else:
            start = at + 6
            size = second - 0x80
            if not 0 < size < 126:
                break
        at = start + size
        if first != TEXT or at > end:
            break
        key = _number((data[start - 4 : start] * (size // 4 + 1))[:size], "little")
        payload = (_number(data[start:at], "little") ^ key).to_bytes(size, "little")
        if not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError:
                break
        found.append((payload, at))
    return found
