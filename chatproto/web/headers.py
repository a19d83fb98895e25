"""Header fields of the HTTP side: what every response carries, and what each kind of page may do."""

from __future__ import annotations

from collections.abc import Sequence

Fields = tuple[tuple[bytes, bytes], ...]

SERVER = b"chatproto"

SECURITY: Fields = (
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"Cache-Control", b"no-store"),
)
"""Of every response that says nothing else."""

ALWAYS = b"no-cache"
"""Cache-Control of what keeps its address: asked for again each time, answered 304 where nothing changed."""

FOR_EVER = b"public, max-age=31536000, immutable"
"""Cache-Control of what has its version in its address."""

_NO_SNIFF: Fields = ((b"X-Content-Type-Options", b"nosniff"),)


def asset_fields() -> Fields:
    """Of scripts, style sheets and pictures of our own pages."""
    return (
        *_NO_SNIFF,
        (b"Cache-Control", FOR_EVER),
        (b"Cross-Origin-Resource-Policy", b"same-origin"),
        (b"Content-Security-Policy", b"default-src 'none'; sandbox"),
    )


def other_asset_fields() -> Fields:
    """As :func:`asset_fields`, where the address has another version."""
    return (*_NO_SNIFF, (b"Cache-Control", b"no-store"), (b"Cross-Origin-Resource-Policy", b"same-origin"))


def demo_asset_fields() -> Fields:
    """Of the files of the demo shop: their addresses stay the same, and agents see the pictures of its products."""
    return (*_NO_SNIFF, (b"Cache-Control", ALWAYS), (b"Cross-Origin-Resource-Policy", b"cross-origin"))


def file_fields() -> Fields:
    """Of what guests and admins sent: nothing in it may run, and whoever knows its address may show it.

    No cookie and no header field leads to it, so that a page elsewhere learns nothing by embedding it.
    """
    return (
        *_NO_SNIFF,
        (b"Referrer-Policy", b"no-referrer"),
        (b"Cache-Control", b"private, max-age=31536000, immutable"),
        (b"Cross-Origin-Resource-Policy", b"cross-origin"),
        (b"Content-Security-Policy", b"default-src 'none'; img-src 'self'; media-src 'self'; sandbox"),
    )


def loader_fields() -> Fields:
    """Of /widget.js, which the pages of shops load."""
    return (
        *_NO_SNIFF,
        (b"Cache-Control", ALWAYS),
        (b"Cross-Origin-Resource-Policy", b"cross-origin"),
        (b"Access-Control-Allow-Origin", b"*"),
    )


def console_fields(image_hosts: Sequence[str]) -> Fields:
    """Of the agents' page: nobody may frame it, and it may frame nobody."""
    return (
        *_page(image_hosts, "'none'", media=True),
        (b"X-Frame-Options", b"DENY"),
        (b"Cross-Origin-Opener-Policy", b"same-origin"),
    )


def frame_fields(image_hosts: Sequence[str], shops: Sequence[str]) -> Fields:
    """Of the guest's panel, which stands in the shop's page.

    A shop's page that is isolated (COEP) takes only frames that are so, too. ``require-corp`` all browsers know, but
    pictures of products come from hosts that know nothing of it: where there are such, it is ``credentialless``.
    """
    embedder = b"credentialless" if image_hosts else b"require-corp"
    return (
        *_page(image_hosts, " ".join(("'self'", *shops)), media=True),
        (b"Cross-Origin-Embedder-Policy", embedder),
        (b"Cross-Origin-Resource-Policy", b"cross-origin"),
    )


def demo_fields() -> Fields:
    """Of the demo shop, which is on our own origin and frames the panel."""
    return (*_page((), "'self'", media=False), (b"X-Frame-Options", b"SAMEORIGIN"))


def _page(image_hosts: Sequence[str], ancestors: str, *, media: bool) -> Fields:
    policy = (
        "default-src 'self'",
        " ".join(("img-src 'self' blob:", *image_hosts)),
        *(("media-src 'self' blob:",) if media else ()),
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        f"frame-ancestors {ancestors}",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return (
        *_NO_SNIFF,
        (b"Referrer-Policy", b"no-referrer"),
        (b"Cache-Control", ALWAYS),
        (b"Content-Security-Policy", "; ".join(policy).encode()),
        (b"Permissions-Policy", b"camera=(), geolocation=(), microphone=(self)"),
    )
