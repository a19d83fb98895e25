"""Agents who log in by a password, over HTTP, with a real daemon."""

from __future__ import annotations

import json

import jwt
from twisted.internet.threads import deferToThread

from chatproto.domain.passwords import hashed
from tests.integration.case import ROOMY, DaemonTestCase
from tests.web.test_uploads import Answer, ask

PASSWORD = "open sesame"
LIFE = 60


class PasswordTests(DaemonTestCase):
    OPTIONS = (*ROOMY, "--password-life", str(LIFE), "--password-tries", "3")

    def agent(self, name: str) -> tuple[int, str]:
        """Somebody with this password; the number, and a name that nobody else has."""
        name = f"{name} {self.group_id}"
        admin_id = self.daemon.add_admin(self.group_id, name)
        self.daemon.sql("UPDATE admin SET password_hash = %s WHERE id = %s", hashed(PASSWORD), admin_id)
        return admin_id, name

    async def post(self, name: str, password: str) -> Answer:
        body = json.dumps({"name": name, "password": password})
        return await deferToThread(
            ask, self.daemon.port, "POST", "/console/login", body, Content_Type="application/json"
        )

    async def test_token(self) -> None:
        """A name and its password bring a token that logs in, and only for as long as the operator wants."""
        alice, name = self.agent("Alice")
        answer = await self.post(name, PASSWORD)
        self.assertEqual((answer.status, answer.said["admin_id"]), (200, alice))
        given = answer.said["token"]
        claims = jwt.decode(given, options={"verify_signature": False})
        self.assertEqual((claims["admin_id"], claims["exp"] - claims["iat"]), (alice, LIFE))
        client = self.client("alice")
        await client.connect(self.daemon.port)
        data = await client.good_request(31000, call_type=3, token=given, v=2)
        self.assertIn(str(alice), data["admin_list"])

    async def test_guesses(self) -> None:
        """Whoever guesses the password of a name is stopped, with the right one too; colleagues are not."""
        (_, alice), (_, bob) = self.agent("Alice"), self.agent("Bob")
        self.assertEqual([(await self.post(alice, "a guess")).status for _ in range(4)], [401] * 3 + [429])
        answer = await self.post(alice, PASSWORD)
        self.assertEqual(answer.status, 429)
        self.assertGreater(int(answer.fields["retry-after"]), 0)
        self.assertEqual((await self.post(bob, PASSWORD)).status, 200)
