"""The table "room | imports from chatproto | only here" of docs/architecture.md, kept."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import chatproto

ROOT = Path(chatproto.__file__).parent

EVERYTHING = None

#: room → the rooms that it may import; a room is a package or module directly in chatproto, and may import itself.
ROOMS: dict[str, set[str] | None] = {
    "errors": set(),
    "clock": set(),
    "identity": {"errors"},
    "listening": {"errors", "clock"},
    "memory": set(),
    "config": {"errors"},
    "embedded": {"errors", "clock"},
    "wire": {"errors"},
    "domain": {"errors"},
    "storage": {"domain", "errors", "clock"},
    "bus": {"domain", "clock"},
    "files": {"errors"},
    "services": {"domain", "storage", "files", "bus", "errors", "clock"},
    "commands": {"wire", "domain", "services", "bus", "errors", "clock"},
    "connection": {"commands", "wire", "domain", "bus", "errors", "clock"},
    "web": {"connection", "services", "files", "errors", "config"},
    "demo": {"domain", "services"},
    "server": EVERYTHING,
    "tap": EVERYTHING,
    "workers": EVERYTHING,
    "cli": EVERYTHING,
}

#: foreign module → where it may be imported (a room, or a file).
ONLY_HERE: dict[str, set[str]] = {
    # Beside the protocol: who reports whether Autobahn's accelerated part is in use.
    "autobahn": {"connection/protocol.py", "cli/doctor.py", "tap.py"},
    "jwt": {"domain/tokens.py"},
    "psycopg2": {"storage/link.py", "storage/connect.py"},
    "txpostgres": {"storage/link.py"},
    "txredisapi": {"bus/redis.py"},
    "twisted.web": {"web"},
    "PIL": {"files/thumbnail.py"},
    "puremagic": {"files/kinds.py"},
    "boto3": {"files/s3.py"},
    "botocore": {"files/s3.py"},
    "twisted.internet.reactor": {"tap.py", "workers.py", "cli/entry.py"},
}

#: What may be named for type checkers where it may not be imported.
FOR_TYPES = {"chatproto.config", "twisted.web"}


@dataclass(frozen=True)
class Import:
    """One name that a file imports: ``from a import b`` is ``a.b``."""

    file: str
    line: int
    name: str
    for_types: bool

    @property
    def room(self) -> str:
        """Of the file."""
        return self.file.split("/")[0].removesuffix(".py")

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"

    def of(self, module: str) -> bool:
        return f"{self.name}.".startswith(f"{module}.")


def imports_of(source: str, file: str) -> Iterator[Import]:
    """All of them, also those inside functions."""
    tree = ast.parse(source)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    package = ["chatproto", *file.split("/")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield Import(file, node.lineno, name, id(node) in for_types)


def imports() -> list[Import]:
    found: list[Import] = []
    for path in sorted(ROOT.rglob("*.py")):
        found.extend(imports_of(path.read_text(), path.relative_to(ROOT).as_posix()))
    return found


def broken(found: Import) -> bool:
    """Whether an import is against the table."""
    if found.for_types and any(found.of(module) for module in FOR_TYPES):
        return False
    for module, places in ONLY_HERE.items():
        if found.of(module) and found.room not in places and found.file not in places:
            return True
    if not found.name.startswith("chatproto."):
        return False
    allowed = ROOMS[found.room]
    wanted = found.name.split(".")[1]
    return allowed is not None and wanted in ROOMS and wanted not in allowed | {found.room}


class Table(SynchronousTestCase):
    def test_imports(self) -> None:
        """Calls go down only: no room imports what the table does not give it."""
        self.assertEqual([str(found) for found in imports() if broken(found)], [])

    def test_all_rooms(self) -> None:
        """Every file belongs to a room of the table."""
        rooms = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in ROOT.rglob("*.py")} - {"__init__"}
        self.assertEqual(rooms - ROOMS.keys(), set())

    def test_wire_and_domain(self) -> None:
        """wire and domain never import each other, whatever else the table says."""
        for room, other in (("wire", "domain"), ("domain", "wire")):
            self.assertNotIn(other, ROOMS[room] or set())
            self.assertTrue(any(found.room == room for found in imports()))

    def test_notices(self) -> None:
        """The check sees what it is there for: in functions, relative, from the package, for types only."""
        for file, source in (
            ("domain/model.py", "from chatproto.wire import codes"),
            ("domain/model.py", "from chatproto import wire"),
            ("domain/model.py", "import chatproto.wire.codes"),
            ("domain/model.py", "from ..wire.codes import KINDS"),
            ("domain/model.py", "from .. import storage"),
            ("wire/frame.py", "def f():\n    from chatproto.domain.model import Role"),
            ("wire/frame.py", "if TYPE_CHECKING:\n    from chatproto.domain.model import Role"),
            ("services/sessions.py", "from chatproto.commands import render"),
            ("storage/people.py", "import psycopg2.extensions"),
            ("storage/people.py", "from txpostgres.txpostgres import Connection"),
            ("connection/hub.py", "from autobahn.websocket import types"),
            ("connection/hub.py", "from twisted.internet import reactor"),
            ("connection/hub.py", "from twisted.web.server import Site"),
            ("connection/hub.py", "from chatproto.config import Config"),
            ("commands/table.py", "from chatproto.storage.pool import Pool"),
            ("domain/model.py", "import jwt"),
            ("embedded.py", "from chatproto.storage.pool import Pool"),
        ):
            [found] = imports_of(source, file)
            self.assertTrue(broken(found), str(found))
        for file, source in (
            ("connection/hub.py", "if TYPE_CHECKING:\n    from chatproto.config import Config"),
            ("connection/protocol.py", "if typing.TYPE_CHECKING:\n    from twisted.web.server import Site"),
            ("tap.py", "from twisted.internet import reactor"),
            ("domain/model.py", "from . import events"),
            ("domain/model.py", "import orjson"),
            ("storage/migrations.py", "import chatproto"),
        ):
            [found] = imports_of(source, file)
            self.assertFalse(broken(found), str(found))
