"""Passwords of admins, as the database keeps them: scrypt (RFC 7914) in a PHC string,
``$scrypt$ln=15,r=8,p=3$SALT$HASH``, salt and hash in Base64 without padding.

Both functions take about a third of a second and 32 MiB, and let other threads run: a server calls them in one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import unicodedata

SHORTEST, LONGEST = 8, 1024
"""Characters of a password (NIST SP 800-63B, 3.1.1.2: at least 8, and any character)."""

# One of the equally strong settings of OWASP's Password Storage Cheat Sheet, the one with little memory.
_LN, _R, _P = 15, 8, 3
_SALT_BYTES, _HASH_BYTES = 16, 32
# What a stored string may ask for: a damaged one must not take the machine's memory.
_MOST_MEMORY = 1 << 28
_MOST_LANES = 16
# Nobody's: what a password is compared with where there is none.
_NONE = f"$scrypt$ln={_LN},r={_R},p={_P}${'A' * 22}${'A' * 43}"

_PHC = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})\$([A-Za-z0-9+/]{2,86})\$([A-Za-z0-9+/]{22,86})", re.ASCII
)


def fault(password: str) -> str | None:
    """What is wrong with a new password, for people."""
    if not SHORTEST <= len(password) <= LONGEST:
        return f"a password has {SHORTEST} to {LONGEST} characters"
    if not password.isprintable():
        return "a password has no control characters"
    return None


def hashed(password: str) -> str:
    """The PHC string of a password, with a salt of its own."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = _scrypt(password, salt, _LN, _R, _P, _HASH_BYTES)
    return f"$scrypt$ln={_LN},r={_R},p={_P}${_base64(salt)}${_base64(digest)}"


def matches(password: str, phc: str | None) -> bool:
    """Whether this is the password that ``phc`` was made of. What is no string of ours matches nothing; None (there
    is none) takes as long as a wrong one."""
    found = _PHC.fullmatch(phc or _NONE)
    if found is None or len(password) > LONGEST:
        return False
    ln, r, p = int(found[1]), int(found[2]), int(found[3])
    if not (1 <= ln <= 24 and r >= 1 and 1 <= p <= _MOST_LANES and 128 * r << ln <= _MOST_MEMORY):
        return False
    try:
        salt, digest = _bytes(found[4]), _bytes(found[5])
    except binascii.Error:
        return False
    return hmac.compare_digest(_scrypt(password, salt, ln, r, p, len(digest)), digest) and phc is not None


def _scrypt(password: str, salt: bytes, ln: int, r: int, p: int, length: int) -> bytes:
    # The same characters may be typed composed or decomposed, and in two widths (NIST SP 800-63B, 3.1.1.2).
    normal = unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
    # OpenSSL counts a little more than the table.
    return hashlib.scrypt(normal, salt=salt, n=1 << ln, r=r, p=p, maxmem=_MOST_MEMORY + (1 << 20), dklen=length)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
