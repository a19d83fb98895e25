"""The embedded PostgreSQL of the zero-set-up default."""

from __future__ import annotations

from chatproto.embedded.cluster import DATABASE, EmbeddedPostgres

__all__ = ["DATABASE", "EmbeddedPostgres"]
