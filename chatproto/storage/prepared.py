"""Statements that PostgreSQL plans once for each link: to plan most of ours costs it more than to run them."""

from __future__ import annotations

import re

_PLACE = re.compile(r"%(?:s|\((\w+)\)s|%)")


class Prepared:
    """A statement with ``%s`` or ``%(name)s``, run as any other by the same values.

    PostgreSQL finds the type of a value by where it stands first; where it cannot, the statement has to cast it.

    :ivar sql: the statement as PREPARE takes it, in a string that is still to be filled with values.
    :ivar values: what follows the name in EXECUTE.
    """

    __slots__ = ("sql", "values")

    def __init__(self, sql: str) -> None:
        places: list[str] = []

        def numbered(found: re.Match[str]) -> str:
            place = found[0]
            if place == "%%":
                return place
            if place == "%s" or place not in places:
                places.append(place)
            return f"${len(places) if place == '%s' else places.index(place) + 1}"

        self.sql = _PLACE.sub(numbered, sql)
        self.values = f"({', '.join(places)})" if places else ""
