"""Tokens: who may log in, and for how long (docs/protocol.md, *Token* in part 1, 2.2 and *Tokens* in 2.6).

Two kinds of key, never mixed. The **shop's** keys verify what the shop signed: one or more HS256 secrets, or RS256,
ES256 or EdDSA public keys; several are all accepted, so that a key can be replaced without a break. The **server's**
key signs and verifies (HS256) what the server itself issues: renewed tokens, log-ins by password, the command line.
The header's ``kid`` decides: "chatproto" is the server's, anything else the shop's. The algorithm is fixed by
configuration, never taken from the token.

Without a key of the shop, the text of the server's secret file is the shop's HS256 secret. The server's key is
always derived from that text (HMAC-SHA-256 with a label), so the two differ and neither kind passes for the other.

What is decided here beyond protocol.md:

- ``iss`` and ``aud``, where configured, are required of both kinds; the server puts them into what it issues.
- Dates may have a fraction (RFC 7519, section 2) and may be digits in a string. ``exp`` has no leeway; ``iat`` and
  ``nbf`` may lie :data:`LEEWAY` seconds ahead, as clocks differ.
- Of a guest's claims only the name is cut. An avatar or profile over its bound is refused like any other wrong value.
- A token past :data:`MAX_TOKEN` characters is refused, and one that would grow past it is not renewed.
"""

from __future__ import annotations

import errno
import hmac
import math
import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm

from chatproto.errors import AdminIdMissing, AdminTokenBad, GuestTokenBad, StartError

SERVER_KID = "chatproto"
MAX_TOKEN = 8192
LEEWAY = 5.0
LIFE_WITHOUT_IAT = 24 * 3600

_MAX_DEPTH = 32
_MAX_EXTERNAL_ID = 64
_LONGEST_KEY = 1 << 16  # bytes
_MIN_SECRET = 32
_MIN_RSA = 2048
_MAX_ID = 2**63 - 1
# The last second of the year 9999: a date past it is milliseconds by mistake.
_LATEST = 253_402_300_799
_LABEL = b"chatproto: key for the server's own tokens"


class KeySettings(Protocol):
    """What of the configuration concerns tokens."""

    @property
    def data(self) -> Path: ...
    @property
    def jwt_secret_files(self) -> Sequence[Path]: ...
    @property
    def jwt_public_key_files(self) -> Sequence[Path]: ...
    @property
    def jwt_algorithm(self) -> str: ...
    @property
    def jwt_audience(self) -> str | None: ...
    @property
    def jwt_issuer(self) -> str | None: ...
    @property
    def max_name(self) -> int: ...
    @property
    def max_url(self) -> int: ...
    @property
    def max_profile(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """A verified token. Dates are Unix seconds.

    :ivar auth_time: when the chain of renewed tokens began, where the token says so.
    :ivar claims: everything in the token, as it came.
    """

    exp: int
    iat: int | None
    auth_time: int | None
    claims: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminClaims(Claims):
    admin_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestClaims(Claims):
    """:ivar external_id: the shop's own id of the customer. The others are None where the token leaves them out."""

    external_id: str
    group_id: int | None
    name: str | None
    avatar: str | None
    profile: dict[str, Any] | None


class _Refused(Exception):
    """Why a token is not accepted: for the log (``__cause__`` of the error), never for the peer."""


class Keyring:
    """All keys of one moment; after SIGHUP a new one replaces it.

    :param shop_keys: secrets (HS256) or public keys (PEM).
    :param server_secret: what the server's own key is derived from.
    :param max_name: characters; *max_url*: characters; *max_profile*: bytes as JSON.
    :raises ValueError: a key that does not fit *algorithm*.
    """

    def __init__(
        self,
        shop_keys: Sequence[bytes],
        algorithm: str,
        server_secret: bytes,
        *,
        audience: str | None = None,
        issuer: str | None = None,
        max_name: int = 100,
        max_url: int = 2048,
        max_profile: int = 4096,
    ) -> None:
        self._shop_keys = [_prepare(key, algorithm) for key in shop_keys]
        self._algorithm = algorithm
        self._server_key = hmac.digest(server_secret, _LABEL, "sha256").hex().encode()
        self._audience = audience
        self._issuer = issuer
        self._max_name = max_name
        self._max_url = max_url
        self._max_profile = max_profile
        self._jws = jwt.PyJWS(["HS256", algorithm])

    def verify_admin(self, token: object, now: float) -> AdminClaims:
        """Who logs in at 31000.

        :raises AdminTokenBad: no token, not verified, over, or a guest's (``gid`` without ``admin_id``).
        :raises AdminIdMissing: verified, but ``admin_id`` is missing or no positive integer.
        """
        try:
            claims, dates = self._verify(token, now)
            if _missing_id(claims.get("admin_id")) and not _missing_id(claims.get("gid")):
                raise _Refused("a guest's token")
        except _Refused as why:
            raise AdminTokenBad from why
        admin_id = _id(claims.get("admin_id"))
        if admin_id is None:
            raise AdminIdMissing
        return AdminClaims(admin_id=admin_id, claims=claims, **dates)

    def verify_guest(self, token: object, now: float) -> GuestClaims:
        """Who logs in at 21000 with a token of the shop.

        :raises GuestTokenBad: no token, not verified, over, an admin's, or a claim of the wrong type or size.
        """
        try:
            claims, dates = self._verify(token, now)
            if not _missing_id(claims.get("admin_id")):
                raise _Refused("an admin's token")
            return GuestClaims(
                external_id=_external_id(claims),
                group_id=_group_id(claims),
                name=_text(claims, "name", None, cut=self._max_name),
                avatar=_text(claims, "avatar", self._max_url),
                profile=_profile(claims, self._max_profile),
                claims=claims,
                **dates,
            )
        except _Refused as why:
            raise GuestTokenBad from why

    def refresh(self, claims: Claims, now: float, limit: float) -> str | None:
        """A new token in place of one that is more than half over; verify it to get its claims.

        Same claims and life; cut to what is left of *limit* seconds (0: no limit) after ``auth_time``.

        :returns: None where the half is not over, the token is, or the new one would not be longer.
        """
        life = LIFE_WITHOUT_IAT if claims.iat is None else claims.exp - claims.iat
        if not 0 < claims.exp - now < life / 2:
            return None
        first = int(now) if claims.iat is None else claims.iat
        auth_time = first if claims.auth_time is None else claims.auth_time
        exp = int(now) + life
        if limit:
            exp = min(exp, auth_time + int(limit))
        if exp <= claims.exp:
            return None
        token = self._sign({**claims.claims, "iat": int(now), "exp": exp, "auth_time": auth_time})
        return token if len(token) <= MAX_TOKEN else None

    def issue(self, claims: Mapping[str, Any], ttl: float, now: float) -> str:
        """A token of the server's own, for *ttl* seconds, with the configured ``iss`` and ``aud``.

        :raises ValueError: the token would be longer than MAX_TOKEN.
        :raises TypeError: a claim that is not JSON.
        """
        own = {"iss": self._issuer, "aud": self._audience}
        configured = {name: value for name, value in own.items() if value is not None}
        token = self._sign({**claims, **configured, "iat": int(now), "exp": int(now + ttl)})
        if len(token) > MAX_TOKEN:
            raise ValueError(f"the token would be longer than {MAX_TOKEN} characters")
        return token

    def _sign(self, claims: dict[str, Any]) -> str:
        return self._jws.encode(orjson.dumps(claims), self._server_key, "HS256", headers={"kid": SERVER_KID})

    def _verify(self, token: object, now: float) -> tuple[dict[str, Any], dict[str, Any]]:
        """Claims, and exp, iat and auth_time read as whole seconds."""
        if not isinstance(token, str) or not token:
            raise _Refused("no token")
        if len(token) > MAX_TOKEN:
            raise _Refused("too long")
        claims = _parse(self._payload(token))
        exp, iat, nbf, auth_time = (_date(claims, name) for name in ("exp", "iat", "nbf", "auth_time"))
        if exp is None:
            raise _Refused("no exp")
        if now >= math.floor(exp):
            raise _Refused("exp is over")
        if (iat or 0) > now + LEEWAY or (nbf or 0) > now + LEEWAY:
            raise _Refused("iat or nbf lies ahead")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise _Refused("another iss")
        if self._audience is not None:
            audience = claims.get("aud")
            if self._audience not in (audience if isinstance(audience, list) else [audience]):
                raise _Refused("another aud")
        dates = {"exp": exp, "iat": iat, "auth_time": auth_time}
        return claims, {name: None if value is None else math.floor(value) for name, value in dates.items()}

    def _payload(self, token: str) -> bytes:
        """What was signed, once one of the keys that its ``kid`` stands for has verified it."""
        try:
            ours = self._jws.get_unverified_header(token).get("kid") == SERVER_KID
            keys, algorithm = ([self._server_key], "HS256") if ours else (self._shop_keys, self._algorithm)
            for key in keys:
                try:
                    payload: bytes = self._jws.decode(token, key, algorithms=[algorithm])
                    return payload
                except jwt.InvalidSignatureError:
                    continue
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise _Refused(f"not verified: {type(error).__name__}") from error
        raise _Refused("signed with another key")


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        claims = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise _Refused("claims are no JSON") from error
    if not isinstance(claims, dict):
        raise _Refused("claims are no object")
    # orjson has refused lone surrogates and NaN; U+0000 it takes, the database does not.
    rest: list[tuple[Any, int]] = [(claims, 1)]
    while rest:
        value, depth = rest.pop()
        if isinstance(value, str):
            if "\0" in value:
                raise _Refused("U+0000 in a claim")
        elif isinstance(value, dict | list):
            if depth > _MAX_DEPTH:
                raise _Refused("claims are too deep")
            if isinstance(value, dict):
                rest.extend((key, depth) for key in value)
            rest.extend((one, depth + 1) for one in (value.values() if isinstance(value, dict) else value))
    return claims


def _integer(value: object) -> int | None:
    """An integer of the protocol (section 0): also as up to 18 digits in a string; true and 1.0 are none."""
    if type(value) is int:
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value, re.ASCII):
        return int(value)
    return None


def _missing(value: object) -> bool:
    return value is None or value == ""


def _missing_id(value: object) -> bool:
    return _missing(value) or _integer(value) == 0


def _id(value: object) -> int | None:
    number = _integer(value)
    return number if number is not None and 0 < number <= _MAX_ID else None


def _date(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if _missing(value):
        return None
    number = value if isinstance(value, float) else _integer(value)
    if number is None or not 0 <= number <= _LATEST:
        raise _Refused(f"{name} is no date in seconds")
    return number


def _external_id(claims: Mapping[str, Any]) -> str:
    gid, sub = claims.get("gid"), claims.get("sub")
    chosen = sub if _missing_id(gid) else str(gid) if type(gid) is int else gid
    if not isinstance(chosen, str) or not 0 < len(chosen) <= _MAX_EXTERNAL_ID:
        raise _Refused(f"no gid or sub of 1 to {_MAX_EXTERNAL_ID} characters")
    return chosen


def _group_id(claims: Mapping[str, Any]) -> int | None:
    value = claims.get("group_id")
    if _missing_id(value):
        return None
    group_id = _id(value)
    if group_id is None:
        raise _Refused("group_id is no positive integer")
    return group_id


def _text(claims: Mapping[str, Any], name: str, most: int | None, cut: int | None = None) -> str | None:
    value = claims.get(name)
    if _missing(value):
        return None
    if not isinstance(value, str) or (most is not None and len(value) > most):
        raise _Refused(f"{name} is no text, or too long")
    return value[:cut]


def _profile(claims: Mapping[str, Any], most: int) -> dict[str, Any] | None:
    value = claims.get("profile")
    if _missing(value):
        return None
    if not isinstance(value, dict) or len(orjson.dumps(value)) > most:
        raise _Refused("profile is no object, or too large")
    return value


def _prepare(key: bytes, algorithm: str) -> Any:
    """*key* as PyJWT verifies with it. Raises ValueError with the reason (never with the key)."""
    method = jwt.PyJWS([algorithm]).get_algorithm_by_name(algorithm)
    try:
        prepared = method.prepare_key(key)
    except (jwt.PyJWTError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        wanted = "secret" if algorithm == "HS256" else "public key (PEM)"
        raise ValueError(f"this is no {wanted} for {algorithm}") from error
    if hasattr(prepared, "private_bytes"):
        raise ValueError("this is a private key: it stays with the shop, give the server the public one")
    if algorithm == "HS256" and len(prepared) < _MIN_SECRET:
        raise ValueError(f"this secret has {len(prepared)} bytes, HS256 needs at least {_MIN_SECRET} (RFC 7518, 3.2)")
    if algorithm == "RS256" and prepared.key_size < _MIN_RSA:
        raise ValueError(f"this key has {prepared.key_size} bits, RS256 needs at least {_MIN_RSA} (RFC 7518, 3.3)")
    return prepared


def load_keyring(settings: KeySettings) -> Keyring:
    """Read all key files, make the server's secret at the first start.

    :raises StartError: a file that cannot be read, is open to others, or holds no fitting key.
    """
    server_secret = load_server_secret(settings.data / "secret")
    return Keyring(
        read_shop_keys(settings, server_secret),
        settings.jwt_algorithm,
        server_secret,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        max_name=settings.max_name,
        max_url=settings.max_url,
        max_profile=settings.max_profile,
    )


def read_shop_keys(settings: KeySettings, server_secret: bytes) -> tuple[bytes, ...]:
    """The shop's keys, without one newline at their end; *server_secret* where none is configured.

    :raises StartError: a file that cannot be read or holds no fitting key.
    """
    keys = []
    for path in (*settings.jwt_secret_files, *settings.jwt_public_key_files):
        try:
            key = _without_newline(_read(path)[0])
            _prepare(key, settings.jwt_algorithm)
        except OSError as error:
            raise StartError(f"cannot read the key file {path}: {error.strerror}") from error
        except ValueError as error:
            raise StartError(f"key file {path}: {error}") from error
        keys.append(key)
    return tuple(keys) or (server_secret,)


def load_server_secret(path: Path) -> bytes:
    """The text of the secret file; at the first start it is made: 32 random bytes in hex, mode 0600.

    Processes that start at once agree on one secret, and a crash leaves none or a whole one.

    :raises StartError: it cannot be made or read, others may read it, or it is too short.
    """
    try:
        if not path.exists():
            _make_secret(path)
        text, mode = _read(path)
        secret = _without_newline(text)
    except OSError as error:
        raise StartError(f"cannot make or read the server's secret {path}: {error.strerror}") from error
    if mode & 0o077:
        raise StartError(f"others may read the server's secret {path} (mode {mode:04o}): chmod 600 {path}")
    if len(secret) < _MIN_SECRET:
        raise StartError(f"the server's secret {path} is shorter than {_MIN_SECRET} bytes: put it back, or remove it")
    return secret


def _make_secret(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_hex(32).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        draft.unlink(missing_ok=True)


def _read(path: Path) -> tuple[bytes, int]:
    """The text of a small plain file, and its mode; a FIFO or a device would block the whole process."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
        return file.read(_LONGEST_KEY), stat.S_IMODE(status.st_mode)


def _without_newline(text: bytes) -> bytes:
    return re.sub(rb"\r?\n\Z", b"", text)
