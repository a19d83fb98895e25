"""Many who ask for a lot, are sent a lot, and never read any of it: what each may cost."""

from __future__ import annotations

import orjson
from twisted.internet.threads import deferToThread

from tests.integration.case import ROOMY, DaemonTestCase, all_of
from tests.integration.daemon import token
from tests.integration.raw import RawClient, frame, resident

DEAF = 14
"""Of one guest, who may have 16 tabs, and of one admin."""
MOST = 1 << 20
"""Bytes that one may cost (docs/performance.md)."""
PAGE = 100


class ReaderTests(DaemonTestCase):
    OPTIONS = (*ROOMY, "--rate", "1000000", "--burst", "1000000")

    def deaf(self, **login: object) -> RawClient:
        """One that is logged in, and for which the kernel keeps little."""
        client = RawClient(self.daemon.port, room=4096)
        self.addCleanup(client.close)
        client.open()
        reply = client.ask(**login)
        self.assertEqual(reply["code"], 200, reply)
        return client

    async def test_memory(self) -> None:
        """Guests and admins who never read cost at most 1 MiB each, and a pair that does read is served meanwhile."""
        admin_id = self.daemon.add_admin(self.group_id, "Alice")
        alice = await self.admin(admin_id, "alice")
        gina = await self.guest("gina")
        text = "x" * 16000
        for _ in range(5):
            await all_of(*(gina.request(22300, msg=text, file_type=6) for _ in range(PAGE // 5)))
        pages = (
            {"api_key": 22100, "page_size": PAGE},
            {
                "api_key": 32100,
                "gid": gina.gid,
                "group_id": self.group_id,
                "page_size": PAGE,
                "before_seq": PAGE + 1,
            },
        )
        # What one large reply takes for a moment, the process keeps for the next.
        for reply in await all_of(gina.request(**pages[0]), alice.request(**pages[1])):
            self.assertEqual((reply["code"], len(reply["data"]["recs"]) > PAGE // 4), (200, True))
        before = resident(self.daemon.pid)
        guest_login = {
            "api_key": 21000,
            "call_type": 1,
            "guest_token": gina.data["guest_token"],
            "group_id": self.group_id,
        }
        admin_login = {"api_key": 31000, "call_type": 3, "token": token(admin_id=admin_id)}
        crowd = []
        for _ in range(DEAF):
            crowd.append((await deferToThread(self.deaf, **guest_login), frame(orjson.dumps(pages[0]))))
            crowd.append((await deferToThread(self.deaf, **admin_login), frame(orjson.dumps(pages[1]))))
        for client, question in crowd:
            client.socket.sendall(question * 50)
        for _ in range(5):
            await all_of(*(gina.request(22300, msg=text, file_type=6) for _ in range(PAGE // 5)))
            await alice.good_request(32300, gid=gina.gid, msg="are you still served?")
            await gina.push(22399)
        self.assertLess(resident(self.daemon.pid) - before, len(crowd) * MOST)
