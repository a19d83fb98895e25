"""The files of ``static/``, read once at the start: scripts, style sheets and pages, with their gzip copies.

Scripts and style sheets are served under ``/static/VERSION/…``, where the version is of all of them together: a
browser keeps them for ever, and never mixes those of two versions. Imports between modules are relative and stay so.

The build (setup.py) packs each script and style sheet that a page names, with all that it imports, into one small file
beside it, ``NAME.min.js``, whose first line says which sources it was made of. Where these are no longer the ones that
are here, as while somebody works on them, the sources are served as they are. The build imports this module, so it
needs nothing but Python.
"""

from __future__ import annotations

import gzip
import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import MappingProxyType

STATIC = Path(__file__).resolve().parent / "static"

LOADER = "widget/loader.js"

TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".txt": "text/plain; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".webmanifest": "application/manifest+json",
}
"""Content types by suffix, and all that is served; the machine's own table may know .js by another name."""

_PACKED = (".js", ".css", ".html", ".svg", ".txt", ".webmanifest")
_PACKAGED = re.compile(r"\.min\.(js|css)$")
_NAMED = re.compile(r"\{\{static\}\}/([\w./-]+\.(?:js|css))")
_IMPORT = re.compile(rb"""^\s*(?:import\b[^'";]*?|export\b[^'";]*?\bfrom\s*)['"](\.{1,2}/[^'"]+)['"]""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent.

    :ivar packed: the gzip copy, where it is smaller.
    :ivar tag: names the content, without quotes.
    """

    type: bytes
    body: bytes
    packed: bytes | None
    tag: str

    @classmethod
    def of(cls, suffix: str, body: bytes) -> Asset:
        # mtime 0: the same bytes, and so the same tag, at every start and on every node.
        packed = gzip.compress(body, 9, mtime=0) if suffix in _PACKED else None
        if packed is not None and len(packed) >= len(body):
            packed = None
        return cls(TYPES[suffix].encode(), body, packed, hashlib.sha256(body).hexdigest()[:20])


class Assets:
    """All files below *root*.

    :ivar version: of all together.
    """

    def __init__(self, root: Path = STATIC) -> None:
        self._files = {name: path.read_bytes() for name, path in _files(root)}
        fresh = banner(stamp(root))
        for name in [name for name in self._files if _PACKAGED.search(name)]:
            if not self._files[name].startswith(fresh):
                del self._files[name]
        digest = hashlib.sha256()
        for name, body in self._files.items():
            digest.update(f"{name}\0{len(body)}\0".encode() + body)
        self.version = digest.hexdigest()[:12]
        self._assets = {
            name: Asset.of(Path(name).suffix, body) for name, body in self._files.items() if not name.endswith(".html")
        }

    def packed(self, name: str) -> str:
        """The name of a file's small copy, or its own."""
        packed = packed_name(name)
        return packed if packed in self._files else name

    def names(self, folder: str) -> list[str]:
        """All files below a folder (which ends with a slash), by their paths in it."""
        return [name.removeprefix(folder) for name in self._files if name.startswith(folder)]

    def get(self, name: str) -> Asset | None:
        """A file by its path below ``static/``; pages are none."""
        return self._assets.get(name)

    def page(self, name: str, options: Mapping[str, str] = MappingProxyType({})) -> Asset | None:
        """A page with its blanks filled in: ``{{static}}`` is the folder of this version, ``{{preload}}`` names all
        modules that its scripts import, so that they come in one go, and others are *options* of the server, so that
        the page does not try what would be refused."""
        if name not in self._files:
            return None
        text = self._files[name].decode()
        base = f"/static/{self.version}"
        modules = [
            module
            for entry in _NAMED.findall(text)
            if entry.endswith(".js") and self.packed(entry) == entry
            for module in self._closure(entry)
        ]
        links = "\n".join(f'<link rel="modulepreload" href="{base}/{module}">' for module in dict.fromkeys(modules))
        text = _NAMED.sub(lambda found: f"{base}/{self.packed(found[1])}", text)
        said = {option: escape(value) for option, value in options.items()}
        filled = {"preload": links, "static": base, **said}
        return Asset.of(".html", re.sub(r"\{\{([a-z-]+)\}\}", lambda blank: filled[blank[1]], text).encode())

    def _closure(self, entry: str) -> list[str]:
        """The module and all that it imports."""
        found, rest = [entry], [entry]
        while rest:
            name = rest.pop()
            for match in _IMPORT.findall(self._files.get(name, b"")):
                module = posixpath.normpath(posixpath.join(posixpath.dirname(name), match.decode()))
                if module not in found:
                    found.append(module)
                    rest.append(module)
        return found


def named_by_pages(root: Path) -> list[str]:
    """The scripts and style sheets that our pages name, and the loader, which pages of shops name."""
    pages = [path.read_text(encoding="utf-8") for name, path in _files(root) if name.endswith(".html")]
    named = dict.fromkeys(name for page in pages for name in _NAMED.findall(page))
    return [name for name in (*named, LOADER) if (root / name).is_file()]


def packed_name(name: str) -> str:
    """Of the small copy of a script or style sheet."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.min{dot}{suffix}"


def stamp(root: Path) -> str:
    """Names all scripts and style sheets together, without their small copies."""
    digest = hashlib.sha256()
    for name, path in _files(root):
        if path.suffix in (".js", ".css") and not _PACKAGED.search(name):
            body = path.read_bytes()
            digest.update(f"{name}\0{len(body)}\0".encode() + body)
    return digest.hexdigest()


def banner(stamp: str) -> bytes:
    """The first line of what was made of these sources."""
    return f"/* {stamp[:16]} */\n".encode()


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix in TYPES:
            yield path.relative_to(root).as_posix(), path
