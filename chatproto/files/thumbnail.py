"""A program of its own: looks at an image, and makes a small one of it. The only file that knows Pillow.

    python thumbnail.py IMAGE THUMBNAIL EDGE MEMORY SECONDS

Decoders of images are where foreign bytes do the most harm, so they run in a process with little memory and time,
which is thrown away afterwards. On stdout stands JSON: ``width`` and ``height`` as the image is shown (turned as its
EXIF says), and ``thumbnail``, its media type, or null where the image is small as it is. Exit code 1: no image that
can be shown.

The thumbnail has the pixels and nothing else: no EXIF, and so no place where it was taken.
"""

import json
import os
import re
import resource
import sys

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF")

MOST_PIXELS = 50_000_000
"""Larger ones are taken for bombs: 50 million pixels are 200 MB when decoded."""

MOST_SCANS = 40
"""Passes in which a progressive JPEG is refined, usually 10: each goes over all its pixels, and takes 75 bytes."""

# 0xFF in what is compressed is followed by 0, or by the number of a restart (ITU T.81, B.1.1).
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_SCAN, _END, _START = b"\xda", b"\xd9", b"\xd8"

SMALL = 100_000
"""Bytes up to which an image that is no larger than the edge needs no thumbnail."""


def scans(jpeg: bytes) -> int:
    """How many scans it has up to its end; what stands behind that (a second picture, a video) does not count."""
    found = at = 0
    while (marker := _MARKER.search(jpeg, at)) is not None and marker[1] != _END:
        found += marker[1] == _SCAN
        at = marker.end()
        if marker[1] != _START:
            at += int.from_bytes(jpeg[at : at + 2], "big")
    return found


def look(source: str, target: str, edge: int) -> dict[str, object]:
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    with Image.open(source, formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError("too many pixels")
        if image.format in ("JPEG", "MPO"):
            with open(source, "rb") as file:
                if scans(file.read()) > MOST_SCANS:
                    raise ValueError("too many scans")
        # A JPEG is decoded at a fraction of its size where that suffices.
        turned = image.getexif().get(0x0112, 1) >= 5
        width, height = (image.height, image.width) if turned else image.size
        image.draft("RGB", (edge * 2, edge * 2))
        image.load()
        clear = image.has_transparency_data
        if max(width, height) <= edge and os.path.getsize(source) <= SMALL:
            return {"width": width, "height": height, "thumbnail": None}
        small = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA" if clear else "RGB")
        small.thumbnail((edge, edge))
        ImageOps.exif_transpose(small, in_place=True)
        pixels = Image.new(small.mode, small.size)
        pixels.paste(small)
        if clear:
            pixels.save(target, "WEBP", quality=80)
        else:
            pixels.save(target, "JPEG", quality=80, optimize=True)
    return {"width": width, "height": height, "thumbnail": "image/webp" if clear else "image/jpeg"}


def main() -> int:
    source, target = sys.argv[1:3]
    edge, memory, seconds = map(int, sys.argv[3:])
    # Conversations go first, however many images there are that take all their time.
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        found = look(source, target, edge)
    except Exception as error:
        # Whatever a decoder raises for foreign bytes, memory that is not to be had among it.
        print(type(error).__name__, file=sys.stderr)
        return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
