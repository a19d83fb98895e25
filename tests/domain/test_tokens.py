"""Tokens: every way in that must open, and every one that must not."""

from __future__ import annotations

import base64
import hmac
import json
import os
import stat
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatproto.config import Config
from chatproto.domain.tokens import (
    LEEWAY,
    MAX_TOKEN,
    AdminClaims,
    GuestClaims,
    Keyring,
    load_keyring,
    load_server_secret,
    read_shop_keys,
)
from chatproto.errors import AdminIdMissing, AdminTokenBad, ChatError, GuestTokenBad, StartError

SHOP = b"the shop's secret, thirty-two bytes or more"
NEXT = b"the shop's next secret, also long enough for it"
SERVER = b"the server's secret, not the shop's, long enough"
NOW = 1_700_000_000.0
DAY = 86400


def shop_token(key: Any = SHOP, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    return jwt.encode({"exp": int(NOW) + 3600, **claims}, key, algorithm, headers=headers)


def raw_token(header: bytes, payload: bytes, key: bytes = SHOP) -> str:
    """A token that PyJWT would not write, with a good HS256 signature."""
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload))
    signature = base64.urlsafe_b64encode(hmac.digest(key, signed, "sha256")).rstrip(b"=")
    return (signed + b"." + signature).decode()


def raw_header(header: bytes) -> str:
    return raw_token(header, b'{"admin_id":7,"exp":1700000009}')


def keyring(shop_keys: tuple[bytes, ...] = (SHOP,), algorithm: str = "HS256", **more: Any) -> Keyring:
    return Keyring(shop_keys, algorithm, SERVER, **more)


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(public: Any) -> bytes:
    text: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text


class Admins(SynchronousTestCase):
    def test_good(self) -> None:
        """An admin with a token of the shop gets in under the number in it."""
        claims = keyring().verify_admin(shop_token(admin_id=7, iat=int(NOW) - 60, name="Wang"), NOW)
        self.assertEqual((claims.admin_id, claims.exp, claims.iat), (7, NOW + 3600, NOW - 60))
        self.assertIsNone(claims.auth_time)
        self.assertEqual(claims.claims["name"], "Wang")

    def test_admin_id(self) -> None:
        """A number as digits counts; what is no positive number is -31002."""
        ring = keyring()
        for value, admin_id in ((1, 1), ("7", 7), ("007", 7), (2**63 - 1, 2**63 - 1)):
            self.assertEqual(ring.verify_admin(shop_token(admin_id=value), NOW).admin_id, admin_id)
        bad: object
        for bad in (0, "0", "", None, -1, "-7", 1.0, True, "x", "٧", " 7", [7], {}, 2**63, "1" * 19):
            with self.assertRaises(AdminIdMissing, msg=repr(bad)):
                ring.verify_admin(shop_token(admin_id=bad), NOW)
        with self.assertRaises(AdminIdMissing):
            ring.verify_admin(shop_token(sub="somebody"), NOW)

    def test_guest(self) -> None:
        """A guest's token opens no desk (-31001), not even beside an admin_id that counts as missing."""
        for claims in ({"gid": "a"}, {"gid": 5, "admin_id": 0}, {"gid": "a", "admin_id": None}):
            with self.assertRaises(AdminTokenBad):
                keyring().verify_admin(shop_token(**claims), NOW)

    def test_no_token(self) -> None:
        """What is no token at all is -31001, never an internal error."""
        nothing: object
        for nothing in (None, "", 5, [], {}, b"x.y.z", "x", "..", "a.b.c", "é.b.c", "\ud800", "." * 10_000):
            with self.assertRaises(AdminTokenBad, msg=repr(nothing)):
                keyring().verify_admin(nothing, NOW)


class Dates(SynchronousTestCase):
    def allowed(self, **claims: Any) -> bool:
        try:
            keyring().verify_admin(raw_token(b'{"alg":"HS256"}', json.dumps({"admin_id": 7, **claims}).encode()), NOW)
        except AdminTokenBad:
            return False
        return True

    def test_exp(self) -> None:
        """A token counts until the second of exp begins, and one without exp never counts."""
        now = int(NOW)
        for exp, allowed in (
            (now + 1, True),
            (now, False),
            (now - 1, False),
            (now + 0.9, False),
            (now + 1.5, True),
            (str(now + 1), True),
            (None, False),
            ("", False),
            ("soon", False),
            (True, False),
            (-1, False),
            ([now + 1], False),
            (253_402_300_799, True),
            (1_700_003_600_000, False),
        ):
            self.assertEqual(self.allowed(exp=exp), allowed, exp)
        self.assertFalse(self.allowed())

    def test_ahead(self) -> None:
        """A shop's clock may go a little ahead of the server's; tokens of the future are refused."""
        edge = int(NOW + LEEWAY)
        for name in ("iat", "nbf"):
            for value, allowed in ((edge, True), (edge + 1, False), (edge + 0.5, False), (None, True), (0, True)):
                self.assertEqual(self.allowed(exp=edge + 60, **{name: value}), allowed, (name, value))
            self.assertFalse(self.allowed(exp=edge, **{name: "yesterday"}))

    def test_auth_time(self) -> None:
        """The token says when its chain began; nonsense there is refused."""
        claims = keyring().verify_admin(shop_token(admin_id=7, auth_time=int(NOW) - 5), NOW)
        self.assertEqual(claims.auth_time, NOW - 5)
        self.assertFalse(self.allowed(exp=NOW + 5, auth_time="x"))


class IssuerAndAudience(SynchronousTestCase):
    def test_required(self) -> None:
        """Where configured, a token for another service of the shop is refused."""
        ring = keyring(audience="chat", issuer="https://shop")
        for aud, iss, allowed in (
            ("chat", "https://shop", True),
            (["web", "chat"], "https://shop", True),
            ("web", "https://shop", False),
            (["web"], "https://shop", False),
            ("chat", "https://other", False),
            ("chat", None, False),
            (None, "https://shop", False),
            ("chatter", "https://shop", False),
            ({"chat": 1}, "https://shop", False),
        ):
            payload = json.dumps({"admin_id": 7, "exp": NOW + 9, "aud": aud, "iss": iss}).encode()
            token = raw_token(b'{"alg":"HS256"}', payload)
            if allowed:
                self.assertEqual(ring.verify_admin(token, NOW).admin_id, 7)
            else:
                with self.assertRaises(AdminTokenBad, msg=f"{aud} {iss}"):
                    ring.verify_admin(token, NOW)

    def test_ignored(self) -> None:
        """Where not configured, whatever stands there does not matter."""
        for claims in ({"aud": "web", "iss": "x"}, {"aud": ["a"]}, {"jti": "1", "sub": "s"}):
            self.assertEqual(keyring().verify_admin(shop_token(admin_id=7, **claims), NOW).admin_id, 7)
        odd = raw_token(b'{"alg":"HS256"}', b'{"admin_id":7,"exp":1700000009,"aud":5,"iss":[],"sub":5,"jti":5}')
        self.assertEqual(keyring().verify_admin(odd, NOW).admin_id, 7)

    def test_own(self) -> None:
        """What the server issues carries both, so it is not locked out by them, nor are its renewals."""
        ring = keyring(audience="chat", issuer="https://shop")
        claims = ring.verify_admin(ring.issue({"admin_id": 7, "aud": "mistaken"}, 100, NOW), NOW)
        self.assertEqual((claims.claims["aud"], claims.claims["iss"]), ("chat", "https://shop"))
        renewed = ring.refresh(claims, NOW + 60, 0)
        self.assertEqual(ring.verify_admin(renewed, NOW + 60).admin_id, 7)
        with self.assertRaises(AdminTokenBad):
            ring.verify_admin(keyring().issue({"admin_id": 7}, 100, NOW), NOW)


class Guests(SynchronousTestCase):
    def claims(self, **claims: Any) -> GuestClaims:
        return keyring(max_name=5, max_url=20, max_profile=30).verify_guest(shop_token(**claims), NOW)

    def refused(self, **claims: Any) -> None:
        payload = json.dumps({"exp": NOW + 60, **claims}).encode()
        with self.assertRaises(GuestTokenBad, msg=repr(claims)):
            keyring(max_url=20, max_profile=30).verify_guest(raw_token(b'{"alg":"HS256"}', payload), NOW)

    def test_external_id(self) -> None:
        """The shop's id of the customer is gid, a text or number, else sub, a text."""
        for claims, external_id in (
            ({"gid": "a"}, "a"),
            ({"gid": 5}, "5"),
            ({"gid": -5}, "-5"),
            ({"gid": "007"}, "007"),
            ({"sub": "b"}, "b"),
            ({"gid": "a", "sub": "b"}, "a"),
            ({"gid": 0, "sub": "b"}, "b"),
            ({"gid": "", "sub": "b"}, "b"),
            ({"gid": "客" * 64}, "客" * 64),
        ):
            self.assertEqual(self.claims(**claims).external_id, external_id)
        for bad in (
            {},
            {"gid": "", "sub": ""},
            {"gid": "a" * 65},
            {"sub": "a" * 65},
            {"sub": 5},
            {"gid": True},
            {"gid": 1.5},
            {"gid": ["a"], "sub": "b"},
            {"gid": "a" * 65, "sub": "b"},
        ):
            self.refused(**bad)

    def test_admin(self) -> None:
        """An admin's token opens no guest's window, however odd its admin_id."""
        admin_id: object
        for admin_id in (7, "7", "x", -1, True, [], 1.5):
            self.refused(gid="a", admin_id=admin_id)
        self.assertEqual(self.claims(gid="a", admin_id=0).external_id, "a")

    def test_group(self) -> None:
        """A token may open one group only; what is no group is refused."""
        for value, group_id in ((3, 3), ("3", 3), (None, None), ("", None), (0, None)):
            self.assertEqual(self.claims(gid="a", group_id=value).group_id, group_id)
        bad: object
        for bad in (-1, 1.5, True, "three", [3], 2**63):
            self.refused(gid="a", group_id=bad)

    def test_absent(self) -> None:
        """What the token does not say leaves the guest's name, picture and profile as they were."""
        for claims in (self.claims(gid="a"), self.claims(gid="a", name="", avatar=None, profile=None)):
            self.assertEqual((claims.name, claims.avatar, claims.profile), (None, None, None))
        self.assertEqual(self.claims(gid="a", profile={}).profile, {})

    def test_bounds(self) -> None:
        """A long name is cut; a picture or profile past its bound, or of another type, is refused."""
        claims = self.claims(gid="a", name="李小明的朋友们", avatar="https://a/bcd.efgh.j", profile={"vip": "x" * 20})
        self.assertEqual(claims.name, "李小明的朋")
        self.assertEqual(len(claims.avatar or ""), 20)
        self.assertEqual(claims.profile, {"vip": "x" * 20})
        bad: dict[str, Any]
        for bad in ({"avatar": "x" * 21}, {"profile": {"vip": "x" * 21}}, {"name": 5}, {"avatar": {}}, {"profile": []}):
            self.refused(gid="a", **bad)

    def test_nul(self) -> None:
        """U+0000 and lone surrogates, which no database row can hold, are refused wherever they stand."""
        for bad in ("\0", "a\0b", "\ud800", "\udfff\ud800"):
            for claims in ({"gid": bad}, {"x": bad}, {bad: 1}, {"x": [{"y": bad}]}, {"x": {bad: 1}}):
                self.refused(**{"gid": "a", **claims})
        self.assertEqual(self.claims(gid="\\u0000").external_id, "\\u0000")

    def test_depth(self) -> None:
        """Claims may be as deep as a frame (32), no deeper."""

        def nested(depth: int) -> Any:
            return [] if depth == 1 else [nested(depth - 1)]

        self.assertEqual(self.claims(gid="a", x=nested(31)).external_id, "a")
        self.refused(gid="a", x=nested(32))
        deep = raw_token(b'{"alg":"HS256"}', b'{"gid":"a","exp":1700000009,"x":' + b"[" * 2000 + b"]" * 2000 + b"}")
        with self.assertRaises(GuestTokenBad):
            keyring().verify_guest(deep, NOW)


class Forgeries(SynchronousTestCase):
    def refused(self, ring: Keyring, token: str) -> None:
        with self.assertRaises(AdminTokenBad):
            ring.verify_admin(token, NOW)
        with self.assertRaises(GuestTokenBad):
            ring.verify_guest(token, NOW)

    def test_none(self) -> None:
        """A token that nobody signed opens nothing, however its alg is written."""
        for alg in ("none", "None", "NONE", "nOnE", ""):
            for kid in ("", ',"kid":"chatproto"'):
                token = raw_token(f'{{"alg":"{alg}"{kid}}}'.encode(), b'{"admin_id":7,"exp":1700000009}')
                self.refused(keyring(), token)
                self.refused(keyring(), token[: token.rindex(".") + 1])
        self.refused(keyring(), raw_token(b'{"typ":"JWT"}', b'{"admin_id":7,"exp":1700000009}'))

    def test_public_key_as_secret(self) -> None:
        """Everybody knows the public key: what is signed HS256 with its text opens nothing."""
        public = pem(rsa_key().public_key())
        ring = keyring((public,), "RS256")
        for secret in (public, public.strip(), SERVER):
            for header in (b'{"alg":"HS256"}', b'{"alg":"HS256","kid":"chatproto"}', b'{"alg":"RS256"}'):
                self.refused(ring, raw_token(header, b'{"admin_id":7,"exp":1700000009}', secret))

    def test_other_algorithm(self) -> None:
        """The right secret with another algorithm than the configured one opens nothing."""
        for algorithm in ("HS384", "HS512"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.refused(keyring(), shop_token(algorithm=algorithm, admin_id=7))
        self.refused(keyring(), shop_token(rsa_key(), "RS256", admin_id=7))
        self.refused(keyring((pem(rsa_key().public_key()),), "RS256"), shop_token(rsa_key(), "RS512", admin_id=7))

    def test_kid(self) -> None:
        """The shop cannot sign in the server's name, nor can a server's token drop its kid."""
        self.refused(keyring(), shop_token(headers={"kid": "chatproto"}, admin_id=7))
        self.assertEqual(keyring().verify_admin(shop_token(headers={"kid": "2024"}, admin_id=7), NOW).admin_id, 7)
        head, payload, signature = keyring().issue({"admin_id": 7}, 60, NOW).split(".")
        self.assertEqual(keyring().verify_admin(f"{head}.{payload}.{signature}", NOW).admin_id, 7)
        for header in (
            b'{"alg":"HS256","typ":"JWT"}',
            b'{"alg":"HS256","kid":5}',
            b'{"alg":"HS256","kid":["chatproto"]}',
        ):
            other = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
            self.refused(keyring(), f"{other}.{payload}.{signature}")
            self.refused(keyring(), raw_token(header, b'{"admin_id":7,"exp":1700000009}', SERVER))

    def test_same_secret(self) -> None:
        """By default shop and server share one file, yet neither can sign in the other's name."""
        ring = Keyring((SERVER,), "HS256", SERVER)
        self.assertEqual(ring.verify_admin(shop_token(SERVER, admin_id=7), NOW).admin_id, 7)
        self.refused(ring, shop_token(SERVER, headers={"kid": "chatproto"}, admin_id=7))
        head, payload, signature = ring.issue({"admin_id": 7}, 60, NOW).split(".")
        plain = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
        self.refused(ring, f"{plain}.{payload}.{signature}")

    def test_headers(self) -> None:
        """Extensions we do not know, detached payloads, bombs and other nonsense in the header are refused."""
        payload = b'{"admin_id":7,"exp":1700000009}'
        for header in (
            b'{"alg":"HS256","crit":["exp"],"exp":1}',
            b'{"alg":"HS256","b64":false,"crit":["b64"]}',
            b'{"alg":["HS256"]}',
            b'{"alg":{"HS256":1}}',
            b'{"alg":null}',
            b"[]",
            b"null",
            b"HS256",
            b"\xff\xfe",
            b"[" * 3000,
        ):
            self.refused(keyring(), raw_token(header, payload))

    def test_payloads(self) -> None:
        """A good signature under what is no JSON object is a bad token."""
        for payload in (b"", b"[]", b"7", b"null", b"\xff", b'{"exp":NaN}', b'{"exp":1e999}', b'{"exp":', b"[" * 3000):
            self.refused(keyring(), raw_token(b'{"alg":"HS256"}', payload))

    def test_changed(self) -> None:
        """A token with one character changed anywhere opens nothing."""
        token = shop_token(admin_id=7)
        for place in range(len(token)):
            self.refused(keyring(), token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :])

    def test_length(self) -> None:
        """Tokens are read up to 8 KiB."""
        short = len(shop_token(admin_id=7, x=""))
        padding = (MAX_TOKEN - short) * 3 // 4
        within = next(
            token
            for more in (2, 1, 0, -1, -2)
            if len(token := shop_token(admin_id=7, x="y" * (padding + more))) <= MAX_TOKEN
        )
        self.assertGreater(len(within), MAX_TOKEN - 3)
        self.assertEqual(keyring().verify_admin(within, NOW).admin_id, 7)
        self.refused(keyring(), shop_token(admin_id=7, x="y" * (padding + 6)))

    def test_rotation(self) -> None:
        """While the shop changes its key, tokens of the old and the new one are both good; then only the new."""
        both, after = keyring((SHOP, NEXT)), keyring((NEXT,))
        for key in (SHOP, NEXT):
            self.assertEqual(both.verify_admin(shop_token(key, admin_id=7), NOW).admin_id, 7)
        self.assertEqual(after.verify_admin(shop_token(NEXT, admin_id=7), NOW).admin_id, 7)
        self.refused(after, shop_token(SHOP, admin_id=7))
        own = both.issue({"admin_id": 7}, 60, NOW)
        self.assertEqual(after.verify_admin(own, NOW).admin_id, 7)

    def test_public_keys(self) -> None:
        """A shop may sign with RS256, ES256 or EdDSA; two keys are accepted at once, a stranger's is not."""
        makers: dict[str, Callable[[], Any]] = {
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }
        for algorithm, make in makers.items():
            old, new, stranger = make(), make(), make()
            ring = keyring((pem(old.public_key()), pem(new.public_key())), algorithm)
            for key in (old, new):
                self.assertEqual(ring.verify_admin(shop_token(key, algorithm, admin_id=7), NOW).admin_id, 7)
            self.refused(ring, shop_token(stranger, algorithm, admin_id=7))
            self.assertEqual(ring.verify_admin(ring.issue({"admin_id": 8}, 60, NOW), NOW).admin_id, 8)

    def test_quiet(self) -> None:
        """No token makes the server write a warning."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ring = keyring()
            ring.verify_admin(shop_token(admin_id=7), NOW)
            self.refused(ring, raw_token(b'{"alg":"HS256"}', b"{}", b"short"))
            ring.issue({"admin_id": 7}, 60, NOW)


class Refresh(SynchronousTestCase):
    def test_table(self) -> None:
        """A token is renewed once more than half of its life is over, never past the limit, never to a shorter one."""
        ring, now, hour = keyring(), int(NOW), 3600
        for iat, exp, auth_time, after, limit, wanted in (
            # All in seconds after NOW but the limit; after: when it is asked, wanted: exp and auth_time of the new one.
            (0, 100, None, 49, 0, None),
            (0, 100, None, 50, 0, None),
            (0, 100, None, 51, 0, (151, 0)),
            (0, 100, None, 99, 0, (199, 0)),
            (0, 100, None, 100, 0, None),
            (0, 100, None, 500, 0, None),
            (0, 101, None, 50, 0, None),
            (0, 101, None, 51, 0, (152, 0)),
            (0, 100, None, 60, 1000, (160, 0)),
            (0, 100, None, 60, 130, (130, 0)),
            (0, 100, None, 60, 101, (101, 0)),
            (0, 100, None, 60, 100, None),
            (0, 100, None, 60, 50, None),
            (0, 100, -900, 60, 1000, None),
            (0, 100, -870, 60, 1000, (130, -870)),
            (0, 100, -870, 60, 0, (160, -870)),
            (None, 24 * hour, None, 12 * hour, 0, None),
            (None, 24 * hour, None, 12 * hour + 1, 0, (36 * hour + 1, 12 * hour + 1)),
            (None, 24 * hour, None, 20 * hour, 10 * hour, (30 * hour, 20 * hour)),
            (None, 48 * hour, None, 30 * hour, 0, None),
            (None, 48 * hour, None, 37 * hour, 0, (61 * hour, 37 * hour)),
            (None, hour, None, 0, 0, (24 * hour, 0)),
            (5, 5, None, 4, 0, None),
            (5, 2, None, 1, 0, None),
        ):
            row = (iat, exp, auth_time, after, limit)
            claims = AdminClaims(
                admin_id=7,
                exp=now + exp,
                iat=None if iat is None else now + iat,
                auth_time=None if auth_time is None else now + auth_time,
                claims={"admin_id": 7, "exp": now + exp, "role": ["x"]},
            )
            token = ring.refresh(claims, NOW + after, limit)
            if wanted is None:
                self.assertIsNone(token, row)
                continue
            renewed = ring.verify_admin(token, NOW + after)
            self.assertEqual((renewed.exp - now, (renewed.auth_time or 0) - now), wanted, row)
            self.assertEqual(renewed.iat, now + after)
            self.assertEqual((renewed.admin_id, renewed.claims["role"]), (7, ["x"]))

    def test_chain(self) -> None:
        """Renewed as often as it goes, a log-in ends 30 days after it began."""
        ring = keyring()
        now = NOW
        claims = ring.verify_admin(shop_token(admin_id=7, iat=int(NOW), exp=int(NOW) + DAY), now)
        while now < claims.exp:
            if token := ring.refresh(claims, now, 30 * DAY):
                claims = ring.verify_admin(token, now)
            now += 1800
        self.assertEqual(claims.exp, NOW + 30 * DAY)
        self.assertEqual(claims.auth_time, NOW)

    def test_guest(self) -> None:
        """A guest's token is renewed with all it says."""
        ring = keyring()
        old = ring.verify_guest(shop_token(gid="a", name="李", group_id="3", profile={"v": 1}, iat=int(NOW)), NOW)
        new = ring.verify_guest(ring.refresh(old, NOW + 3000, 0), NOW + 3000)
        self.assertEqual(
            (new.external_id, new.name, new.group_id, new.profile),
            (old.external_id, old.name, old.group_id, old.profile),
        )
        self.assertEqual(new.exp, NOW + 3000 + 3600)

    def test_kid(self) -> None:
        """A renewed token is the server's own, and survives a change of the shop's key."""
        ring = keyring()
        token = ring.refresh(ring.verify_admin(shop_token(admin_id=7, iat=int(NOW) - 3600), NOW + 1), NOW + 1, 0)
        self.assertEqual(jwt.get_unverified_header(token or "")["kid"], "chatproto")
        self.assertEqual(keyring((NEXT,)).verify_admin(token, NOW + 2).admin_id, 7)

    def test_grown(self) -> None:
        """A token so long that its renewal could not be read again is not renewed."""
        ring = keyring()
        for spare, renewed in ((200, True), (20, False)):
            token = shop_token(admin_id=7, iat=int(NOW), x="y" * 5900)
            token = shop_token(admin_id=7, iat=int(NOW), x="y" * (5900 + (MAX_TOKEN - spare - len(token)) * 3 // 4))
            claims = ring.verify_admin(token, NOW)
            self.assertEqual(ring.refresh(claims, NOW + 3000, 0) is not None, renewed)

    @given(
        now=st.integers(10**9, 2 * 10**9),
        past=st.integers(0, 10**6),
        left=st.integers(-10, 10**6),
        chain=st.none() | st.integers(0, 10**7),
        limit=st.sampled_from([0, 60, 3600, 30 * DAY]),
    )
    def test_always_longer(self, now: int, past: int, left: int, chain: int | None, limit: int) -> None:
        """Whoever gets a new token can use it at once, for longer than the old one, within the limit."""
        ring = keyring()
        auth_time = None if chain is None else now - past - chain
        claims = AdminClaims(admin_id=7, exp=now + left, iat=now - past, auth_time=auth_time, claims={"admin_id": 7})
        token = ring.refresh(claims, float(now), limit)
        if token is not None:
            renewed = ring.verify_admin(token, float(now))
            self.assertGreater(renewed.exp, claims.exp)
            self.assertLess(left, (left + past) / 2)
            if limit:
                self.assertLessEqual(renewed.exp, (now - past if auth_time is None else auth_time) + limit)


class Issue(SynchronousTestCase):
    def test_issue(self) -> None:
        """A token of the command line works for as long as it was asked for."""
        ring = keyring()
        token = ring.issue({"gid": "a", "name": "李"}, 60, NOW + 0.4)
        self.assertEqual(ring.verify_guest(token, NOW + 0.4).iat, NOW)
        self.assertEqual(ring.verify_guest(token, NOW + 59.9).name, "李")
        with self.assertRaises(GuestTokenBad):
            ring.verify_guest(token, NOW + 60)

    def test_too_long(self) -> None:
        """The server issues no token that it would not read."""
        with self.assertRaises(ValueError):
            keyring().issue({"gid": "a", "name": "x" * 7000}, 60, NOW)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["7", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["admin_id", "gid", "sub", "group_id", "name", "avatar", "profile", "exp", "iat", "nbf", "auth_time", "iss", "aud"]
)


class AnyClaims(SynchronousTestCase):
    @given(st.dictionaries(NAMES | st.text(max_size=5), JSON, max_size=6), st.booleans())
    def test_claims(self, claims: dict[str, Any], lasting: bool) -> None:
        """Whatever a shop puts into its token, the login gets a good answer or one error of its own."""
        if lasting:
            claims = {**claims, "exp": int(NOW) + 60}
        token = raw_token(b'{"alg":"HS256"}', json.dumps(claims).encode())
        ring = keyring()
        try:
            admin = ring.verify_admin(token, NOW)
        except (AdminTokenBad, AdminIdMissing):
            pass
        else:
            self.assertGreater(admin.admin_id, 0)
            self.assertGreater(admin.exp, NOW)
            ring.refresh(admin, NOW, 0)
        try:
            guest = ring.verify_guest(token, NOW)
        except GuestTokenBad:
            pass
        else:
            self.assertTrue(0 < len(guest.external_id) <= 64)
            self.assertNotIn("\0", json.dumps([guest.external_id, guest.name, guest.profile], ensure_ascii=False))
            ring.refresh(guest, NOW, 0)

    @given(st.text() | st.binary().map(lambda raw: raw_token(b'{"alg":"HS256"}', raw)) | st.binary().map(raw_header))
    def test_noise(self, token: str) -> None:
        """No noise in place of a token is anything but a bad token."""
        for verify in (keyring().verify_admin, keyring().verify_guest):
            with self.assertRaises(ChatError) as caught:
                verify(token, NOW)
            self.assertIn(type(caught.exception), (AdminTokenBad, GuestTokenBad))


class ServerSecret(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "data" / "secret"

    def test_first_start(self) -> None:
        """The first start makes a secret that only its owner can read; later ones find the same."""
        secret = load_server_secret(self.path)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(len(bytes.fromhex(secret.decode())), 32)
        self.assertEqual(load_server_secret(self.path), secret)
        self.assertEqual([one.name for one in self.path.parent.iterdir()], ["secret"])

    def test_at_once(self) -> None:
        """Processes that start at the same time on a fresh machine agree on one secret."""
        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(lambda _: load_server_secret(self.path), range(32)))
        self.assertEqual(found, {load_server_secret(self.path)})
        self.assertEqual([one.name for one in self.path.parent.iterdir()], ["secret"])

    def test_umask(self) -> None:
        """However strict or lax the shell's umask, the file's mode is the same."""
        old = os.umask(0)
        try:
            load_server_secret(self.path)
        finally:
            os.umask(old)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_open_to_others(self) -> None:
        """A secret that others may read stops the start with a line that says what to do."""
        load_server_secret(self.path)
        for mode in (0o640, 0o604, 0o620, 0o666):
            self.path.chmod(mode)
            with self.assertRaises(StartError) as caught:
                load_server_secret(self.path)
            self.assertIn(f"chmod 600 {self.path}", str(caught.exception))

    def test_own_secret(self) -> None:
        """An operator may put a secret there; one newline at its end does not count."""
        self.path.parent.mkdir(parents=True)
        for written in (SHOP, SHOP + b"\n", SHOP + b"\r\n"):
            self.path.write_bytes(written)
            self.path.chmod(0o600)
            self.assertEqual(load_server_secret(self.path), SHOP)

    def test_too_short(self) -> None:
        """An empty or short secret is refused, never silently replaced: tokens depend on it."""
        self.path.parent.mkdir(parents=True)
        for written in (b"", b"\n", b"x" * 31):
            self.path.write_bytes(written)
            self.path.chmod(0o600)
            with self.assertRaisesRegex(StartError, "shorter than 32 bytes"):
                load_server_secret(self.path)
            self.assertEqual(self.path.read_bytes(), written)

    def test_unusable(self) -> None:
        """Where no secret can be made or read, the start fails with one line that names the file."""
        self.path.parent.parent.mkdir(parents=True)
        self.path.parent.write_text("a file in the place of the data directory")
        with self.assertRaisesRegex(StartError, "secret") as caught:
            load_server_secret(self.path)
        self.assertNotIn("\n", str(caught.exception))


class ShopKeys(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def write(self, content: bytes, name: str = "key") -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def refused(self, because: str, **options: Any) -> None:
        with self.assertRaisesRegex(StartError, because) as caught:
            read_shop_keys(Config(**options), SERVER)
        self.assertNotIn("\n", str(caught.exception))

    def test_secrets(self) -> None:
        """Secrets come from their files without the newline an editor leaves."""
        paths = (self.write(SHOP + b"\n", "a"), self.write(NEXT, "b"))
        self.assertEqual(read_shop_keys(Config(jwt_secret_files=paths), SERVER), (SHOP, NEXT))
        self.assertEqual(
            read_shop_keys(Config(jwt_secret_files=(self.write(SHOP + b"\n\n"),)), SERVER), (SHOP + b"\n",)
        )

    def test_default(self) -> None:
        """Without a key of its own the shop signs with the text of the secret file."""
        self.assertEqual(read_shop_keys(Config(), SERVER), (SERVER,))

    def test_bad_secrets(self) -> None:
        """A short secret, a key in the place of a secret and a missing file stop the start, with the file's name."""
        self.refused("key: this secret has 31 bytes", jwt_secret_files=(self.write(b"x" * 31),))
        self.refused("key: this secret has 31 bytes", jwt_secret_files=(self.write(b"x" * 31 + b"\n"),))
        self.refused("key: this is no secret", jwt_secret_files=(self.write(b""),))
        public = pem(ec.generate_private_key(ec.SECP256R1()).public_key())
        self.refused("key: this is no secret", jwt_secret_files=(self.write(public),))
        self.refused("cannot read .*absent", jwt_secret_files=(self.folder / "absent",))

    def test_bad_public_keys(self) -> None:
        """A key of another algorithm, a private or weak one and no key at all stop the start."""
        curve = ec.generate_private_key(ec.SECP256R1())
        plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for algorithm, content, because in (
            ("RS256", pem(curve.public_key()), "no public key .PEM. for RS256"),
            ("EdDSA", pem(curve.public_key()), "no public key .PEM. for EdDSA"),
            ("ES256", pem(ed25519.Ed25519PrivateKey.generate().public_key()), "no public key .PEM. for ES256"),
            ("ES256", pem(ec.generate_private_key(ec.SECP384R1()).public_key()), "no public key .PEM. for ES256"),
            ("ES256", b"not a key", "no public key .PEM. for ES256"),
            ("RS256", b"", "no public key .PEM. for RS256"),
            ("EdDSA", b"\xff\xfe", "no public key .PEM. for EdDSA"),
            ("ES256", curve.private_bytes(*plain), "private key"),
            ("RS256", rsa.generate_private_key(65537, 1024).public_key(), "1024 bits"),
        ):
            path = self.write(content if isinstance(content, bytes) else pem(content))
            self.refused(because, jwt_public_key_files=(path,), jwt_algorithm=algorithm)


class LoadKeyring(SynchronousTestCase):
    def test_first_start(self) -> None:
        """On a fresh machine the shop signs with the text of --data/secret, and it works."""
        data = Path(self.mktemp())
        ring = load_keyring(Config(data=data, max_name=3))
        secret = (data / "secret").read_bytes().strip()
        guest = ring.verify_guest(shop_token(secret, gid="a", name="abcdef"), NOW)
        self.assertEqual(guest.name, "abc")

    def test_reload(self) -> None:
        """After SIGHUP the new keys count, and what the server issued before still does."""
        data = Path(self.mktemp())
        before = load_keyring(Config(data=data))
        own = before.issue({"admin_id": 7}, 60, NOW)
        key = data / "shop"
        key.write_bytes(NEXT)
        after = load_keyring(Config(data=data, jwt_secret_files=(key,)))
        self.assertEqual(after.verify_admin(own, NOW).admin_id, 7)
        self.assertEqual(after.verify_admin(shop_token(NEXT, admin_id=8), NOW).admin_id, 8)
        with self.assertRaises(AdminTokenBad):
            after.verify_admin(shop_token((data / "secret").read_bytes().strip(), admin_id=7), NOW)

    def test_nothing_shown(self) -> None:
        """No secret and no customer's data stands in what a log might print of them."""
        ring = keyring()
        claims = ring.verify_admin(shop_token(admin_id=7, phone="13800000000"), NOW)
        self.assertNotIn("13800000000", repr(claims))
        for secret in (SHOP, SERVER):
            self.assertNotIn(secret.decode(), repr(ring))
