"""Tables for people, on a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns under their heads, numbers to the right."""
    numeric = [all(isinstance(row[at], int) for row in rows) for at in range(len(head))]
    lines = [list(head), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(_width(line[at]) for line in lines) for at in range(len(head))]
    return "\n".join(
        "  ".join(
            " " * (width - _width(cell)) + cell if right else cell + " " * (width - _width(cell))
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def shown(value: object) -> str:
    """Names come from outside: nothing in them may steer the terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in str(value))


def _width(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(one) in "WF" for one in text)
    return len(text) + wide - sum(unicodedata.combining(one) > 0 for one in text)
