"""What kind of thing a file is, by its content: neither its name nor what its sender calls it is believed.

Only what browsers show without running anything is an image, a voice or a video; everything else, documents of the web
and SVG among it, is a file, which is downloaded and never opened on our origin.

What was declared decides one thing only: whether a container that holds either (WebM, MP4, Ogg) is called sound or
picture. Both are shown by the same players, and neither runs anything.
"""

from __future__ import annotations

from typing import NamedTuple

import puremagic

IMAGE, VOICE, VIDEO, FILE = "image", "voice", "video", "file"

HEAD = 4096
"""Bytes at the beginning that tell what it is."""

UNKNOWN = "application/octet-stream"


class Found(NamedTuple):
    """:ivar media_type: what it is served as."""

    kind: str
    media_type: str


_FILE = Found(FILE, UNKNOWN)

# By the extension that puremagic calls the content by (nothing to do with the file's name): its media types are of
# several spellings, and missing for some.
_TYPES = {
    ".jfif": Found(IMAGE, "image/jpeg"),
    ".jpg": Found(IMAGE, "image/jpeg"),
    ".jpeg": Found(IMAGE, "image/jpeg"),
    ".png": Found(IMAGE, "image/png"),
    ".gif": Found(IMAGE, "image/gif"),
    ".webp": Found(IMAGE, "image/webp"),
    ".avif": Found(IMAGE, "image/avif"),
    ".mp3": Found(VOICE, "audio/mpeg"),
    ".mpga": Found(VOICE, "audio/mpeg"),
    ".aac": Found(VOICE, "audio/aac"),
    ".wav": Found(VOICE, "audio/wav"),
    ".flac": Found(VOICE, "audio/flac"),
    ".m4a": Found(VOICE, "audio/mp4"),
    ".ogg": Found(VOICE, "audio/ogg"),
    ".oga": Found(VOICE, "audio/ogg"),
    ".opus": Found(VOICE, "audio/ogg"),
    ".ogv": Found(VIDEO, "video/ogg"),
    ".mp4": Found(VIDEO, "video/mp4"),
    ".m4v": Found(VIDEO, "video/mp4"),
    ".webm": Found(VIDEO, "video/webm"),
    ".mov": Found(VIDEO, "video/quicktime"),
}

_EITHER = {"mp4", "webm", "ogg"}

SHOWN = frozenset(found.media_type for found in _TYPES.values()) | {"audio/webm"}
"""Media types that may be shown in place."""


def sniff(head: bytes, declared: str = "") -> Found:
    """What a file is.

    :param head: its first :data:`HEAD` bytes, or all of them.
    :param declared: the media type that its sender gives.
    """
    try:
        matches = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return _FILE
    found = _TYPES.get(matches[0].extension, _FILE) if matches else _FILE
    container = found.media_type.partition("/")[2]
    wanted = declared.partition("/")[0].strip().lower()
    if container in _EITHER and wanted in ("audio", "video"):
        return Found(VOICE if wanted == "audio" else VIDEO, f"{wanted}/{container}")
    return found
