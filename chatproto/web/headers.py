"""Header fields that every response of the HTTP side carries."""

from __future__ import annotations

SERVER = b"chatproto"

SECURITY: tuple[tuple[bytes, bytes], ...] = (
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"Cache-Control", b"no-store"),
)
