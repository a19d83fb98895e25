"""Which files there are, whose they are, and how much somebody has sent lately."""

from __future__ import annotations

from dataclasses import dataclass

from chatproto.domain.model import Person
from chatproto.storage.history import Reader
from chatproto.storage.pool import Transaction


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file that can be read.

    :ivar title: what its sender calls it.
    :ivar thumb_type: media type of its thumbnail; None where it has none.
    """

    name: str
    size: int
    title: str
    media_type: str
    thumb_type: str | None
    thumb_size: int | None


async def lock(transaction: Transaction, person: Person) -> None:
    """Let the uploads of one person begin one after the other, on all nodes.

    A statement of its own: what is read next is younger than the lock. Locks with one key are apart from those with
    two, which groups have.
    """
    await transaction.fetch("SELECT pg_advisory_xact_lock(%s)", (person.id * 4 + person.role,))


async def sent(reader: Reader, person: Person, within: int) -> tuple[int, int]:
    """Bytes of a person's files of the last *within* ms, and in how many ms the oldest of them will not count."""
    [(total, oldest)] = await reader.fetch(
        "SELECT coalesce(sum(size), 0)::bigint, coalesce(min(created_at) + %(within)s - now_ms(), 0) FROM upload"
        " WHERE person_type = %(type)s AND person_id = %(id)s AND created_at > now_ms() - %(within)s",
        {"type": int(person.role), "id": person.id, "within": within},
    )
    return total, oldest


async def begin(reader: Reader, name: str, node: str, person: Person, size: int, title: str) -> None:
    """A file begins to arrive, and counts."""
    await reader.fetch(
        "INSERT INTO upload (name, node, person_type, person_id, size, title) VALUES (%s, %s, %s, %s, %s, %s)",
        (name, node, int(person.role), person.id, size, title),
    )


async def stored(reader: Reader, name: str, media_type: str, thumb_type: str | None, thumb_size: int | None) -> None:
    """It has arrived, and can be read."""
    await reader.fetch(
        "UPDATE upload SET media_type = %s, thumb_type = %s, thumb_size = %s WHERE name = %s",
        (media_type, thumb_type, thumb_size, name),
    )


async def forget(reader: Reader, name: str) -> None:
    await reader.fetch("DELETE FROM upload WHERE name = %s", (name,))


async def arriving(reader: Reader, node: str) -> list[str]:
    """The names of files that a node has begun to take."""
    rows = await reader.fetch("SELECT name FROM upload WHERE node = %s AND media_type IS NULL", (node,))
    return [name for (name,) in rows]


async def find(reader: Reader, name: str) -> FileRow | None:
    rows = await reader.fetch(
        "SELECT name, size, title, media_type, thumb_type, thumb_size FROM upload"
        " WHERE name = %s AND media_type IS NOT NULL",
        (name,),
    )
    return FileRow(*rows[0]) if rows else None
