"""Files of all kinds, as small as they can be."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

_EBML = bytes.fromhex("1a45dfa3")
_OGG = b"OggS\0\x02" + bytes(8) + b"abcd\0\0\0\0wxyz\x01"

GPS, ORIENTATION, MAKE = 0x8825, 0x0112, 0x010F


def image(format: str = "JPEG", size: tuple[int, int] = (8, 6), mode: str = "RGB", **options: Any) -> bytes:
    """An image with a gradient in it; where it has an alpha channel, one can see through parts of it."""
    out = io.BytesIO()
    gradient = Image.linear_gradient("L").resize(size)
    picture = gradient.convert(mode)
    if "A" in mode:
        picture.putalpha(gradient)
    picture.save(out, format, **options)
    return out.getvalue()


def photo(size: tuple[int, int] = (1600, 900), orientation: int = 1) -> bytes:
    """A JPEG as a camera makes it: noisy, and with what is nobody's business in its EXIF."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[MAKE] = "SecretCam"
    exif.get_ifd(GPS).update({1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2)})
    out = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(out, "JPEG", exif=exif)
    return out.getvalue()


def blank(size: tuple[int, int], mode: str) -> bytes:
    """A PNG of one colour: any number of pixels in few bytes."""
    out = io.BytesIO()
    Image.new(mode, size, 1 if mode == "1" else (10, 20, 30, 100)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def bomb() -> bytes:
    """A hundred million pixels."""
    return blank((10_000, 10_000), "1")


MP4 = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + b"\0\0\0\x08free" + bytes(200)
M4A = b"\0\0\0\x20ftypM4A \0\0\2\0M4A mp42isom\0\0\0\0" + bytes(200)
MOV = b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(200)
WEBM = (
    _EBML
    + b"\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webmB\x87\x81\x04B\x85\x81\x02\x18S\x80g\x01"
    + bytes(100)
)
MKV = _EBML + b"\xa3B\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x88matroskaB\x87\x81\x04" + bytes(100)
OPUS = _OGG + b"\x13OpusHead\x01\x02" + bytes(100)
THEORA = _OGG + b"\x2a\x80theora" + bytes(100)
MP3 = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + b"\xff\xfb\x90\x44" + bytes(400)
AAC = b"\xff\xf1\x50\x80\x02\x1f\xfc" + bytes(100)
WAV = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + bytes(100)
FLAC = b"fLaC\0\0\0\x22" + bytes(100)
AVI = b"RIFF\x24\0\0\0AVI LIST" + bytes(100)
PDF = b"%PDF-1.4\n%abc\n"
ZIP = b"PK\x03\x04" + bytes(60)
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!doctype html><html><script>alert(1)</script>"
GIF_AND_SCRIPT = b"GIF89a=1;alert(1)//"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
