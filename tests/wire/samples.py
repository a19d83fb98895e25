"""What the tests of this room are made of: frames, and values of every JSON type."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st

from chatproto.wire.frame import Frame, parse

#: For every @given: a slow machine is no failure, and no run depends on what an earlier one found.
checked = settings(deadline=None, database=None)

#: Text as a client may send it: no lone surrogate, no U+0000.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)


def frame(**fields: object) -> Frame:
    """A frame with these top-level fields."""
    return parse(orjson.dumps({"api_key": 1, **fields}))


def written(fields: str) -> Frame:
    """A frame with these fields, written as JSON without the outer braces."""
    return parse(f'{{"api_key":1,{fields}}}'.encode())


def each(*values: Any) -> tuple[Any, ...]:
    """Values of different types, to go through."""
    return values


#: What is no integer in any place of the protocol.
NO_INTEGERS = each(True, False, 0.0, 1.0, 1.5, "x", "1.0", " 1", "+1", "1" * 19, [], {}, [1])
#: What is no id, and not missing either.
NO_IDS = each(*NO_INTEGERS, -1, "-1", 2**63, 2**64 - 1, 1e30)
#: What is no string, and not missing either.
NO_STRINGS = each(True, False, 0, 5, 1.5, [], {}, ["a"])
