"""``chatproto``: the operator's command line."""

from __future__ import annotations

from chatproto.cli.entry import main

__all__ = ["main"]
