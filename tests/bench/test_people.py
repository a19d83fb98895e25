"""Who takes part in the benchmark."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.people import (
    PER_ADDRESS,
    TEXT,
    Logins,
    People,
    asking,
    crowd,
    echoes,
    fan_out,
    handshake,
    pairs,
    source_address,
    tabs,
)


class PlanTests(SynchronousTestCase):
    def setUp(self) -> None:
        data = Path(self.mktemp())
        data.mkdir()
        self.logins = Logins(data)

    def test_pairs(self) -> None:
        """Each conversation has one sender and one receiver, and both sides write."""
        plan = list(pairs(People(4, 4), self.logins))
        self.assertEqual(
            Counter((one.thread, one.role) for one in plan),
            Counter({(t, r): 1 for t in range(4) for r in ("send", "receive")}),
        )
        heads = [json.loads(one.head + '"}') for one in plan if one.role == "send"]
        self.assertEqual(sorted(head["api_key"] for head in heads), [22300, 22300, 32300, 32300])
        self.assertEqual({head["msg"] for head in heads}, {TEXT})
        self.assertEqual(sorted(head["gid"] for head in heads if "gid" in head), [2, 4])

    def test_admins_first(self) -> None:
        """Admins are on line before their guests come."""
        for plan in (
            pairs(People(3, 3), self.logins),
            fan_out(People(2, 2), self.logins, 3),
            crowd(People(2, 8), self.logins),
            pairs(People(3, 8), self.logins, 2),
            tabs(People(2, 3), self.logins),
            asking(People(2, 3), self.logins, [1], {"api_key": 22000}),
        ):
            kinds = [json.loads(one.login)["call_type"] for one in plan]
            self.assertEqual(kinds, sorted(kinds, reverse=True))

    def test_some_are_silent(self) -> None:
        """Where only some pairs talk, everybody else is here all the same, each once."""
        plan = list(pairs(People(4, 9), self.logins, 2))
        self.assertEqual(Counter(one.role for one in plan), {"send": 2, "receive": 2, "idle": 2 + 7})
        self.assertEqual(len({one.login for one in plan if one.role == "idle"}), 9)

    def test_tabs(self) -> None:
        """A message has one sender and one receiver, the guest's other tab, however many admins there are."""
        for admins in (1, 5):
            plan = list(tabs(People(admins, 3), self.logins))
            talking = Counter((one.thread, one.role) for one in plan if one.role != "idle")
            self.assertEqual(talking, {(t, r): 1 for t in range(3) for r in ("send", "receive")})
            self.assertEqual(len(plan), admins + 6)

    def test_commands_in_turn(self) -> None:
        """One who asks has each command in a field of its own, to which the load generator adds the request_id."""
        [one] = [c for c in asking(People(1, 2), self.logins, [2], {"api_key": 22060}, {"api_key": 22000}) if c.head]
        self.assertEqual((one.role, one.thread), ("ask", 1))
        asked = [json.loads(head + 'x"}') for head in one.head.split("\t")]
        self.assertEqual(asked, [{"api_key": key, "request_id": "x"} for key in (22060, 22000)])

    def test_fan_out(self) -> None:
        """Every admin listens on all the connections."""
        plan = list(fan_out(People(2, 2), self.logins, 16))
        self.assertEqual(Counter((one.thread, one.role) for one in plan)[0, "receive"], 16)

    def test_guests_know_their_group(self) -> None:
        """A guest logs in where the admin is."""
        people = People(25, 50)
        for one in crowd(people, self.logins):
            login = json.loads(one.login)
            if "group_id" in login:
                self.assertIn(login["group_id"], (1, 2, 3))
        self.assertEqual([people.group_of(admin) for admin in (1, 10, 11, 25)], [1, 1, 2, 3])
        self.assertEqual([people.admin_of(gid) for gid in (1, 25, 26)], [1, 25, 1])

    def test_one_line_each(self) -> None:
        """The load generator reads five fields a line."""
        for one in [*pairs(People(1, 1), self.logins), *echoes(1)]:
            line = one.line(0)
            self.assertEqual((line.count("\t"), line.count("\n"), line[-1]), (4, 1, "\n"))

    def test_addresses_stay_below_the_limit(self) -> None:
        """No address has as many connections as production refuses, and the address is one of this machine."""
        counts = Counter(source_address(place) for place in range(30_000))
        self.assertEqual(max(counts.values()), PER_ADDRESS)
        for address in counts:
            parts = [int(part) for part in address.split(".")]
            self.assertTrue(parts[:2] == [127, 0] and all(1 <= part <= 250 for part in parts[2:]), address)

    def test_handshake(self) -> None:
        """The request is one that a browser could send, to the port in question, and waits for its key."""
        request = handshake(8420)
        self.assertTrue(request.startswith("GET / HTTP/1.1\r\nHost: 127.0.0.1:8420\r\n"))
        self.assertIn("\r\nOrigin: http://127.0.0.1:8420\r\n", request)
        self.assertTrue(request.endswith("\r\n") and "\r\n\r\n" not in request)
        self.assertNotIn("\n", request.replace("\r\n", ""))
