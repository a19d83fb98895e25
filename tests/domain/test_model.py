from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatproto.domain.model import Person, Principal, Role, admin_topic, group_topic, guest_topic


class Topics(SynchronousTestCase):
    def test_apart(self) -> None:
        """An admin, a guest and a group with the same number never get each other's news."""
        admin = Principal(Person(Role.ADMIN, 3, "Ann", ""), 3)
        guest = Principal(Person(Role.GUEST, 3, "Gus", ""), 3, conversation_id=1)
        self.assertEqual(admin.topic, admin_topic(3))
        self.assertEqual(guest.topic, guest_topic(3, 3))
        self.assertEqual(len({admin.topic, guest.topic, group_topic(3)}), 3)

    def test_guest_of_two_groups(self) -> None:
        """What a guest writes to one shop is not shown in the same guest's window of another."""
        self.assertNotEqual(guest_topic(1, 23), guest_topic(12, 3))
        person = Person(Role.GUEST, 5, "Gus", "")
        self.assertNotEqual(Principal(person, 1).topic, Principal(person, 2).topic)


class Roles(SynchronousTestCase):
    def test_wire(self) -> None:
        """A role is the call_type of its login, and the word in ``sender.type``."""
        self.assertEqual([(int(role), role.word) for role in Role], [(1, "guest"), (3, "admin")])
