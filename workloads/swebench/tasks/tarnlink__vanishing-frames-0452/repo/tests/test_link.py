import unittest

from tarnlink import Receiver, Sender
from tests.test_message import STATION


class LinkTests(unittest.TestCase):
    def test_messages_arrive_in_order(self):
        sender, receiver = Sender(STATION), Receiver(STATION)
        sent = [{"name": "weir", "reading": {"at": at, "level": 1500 + at}} for at in range(10)]
        wire = b"".join(sender.send(message) for message in sent)
        self.assertEqual(receiver.feed(wire), list(enumerate(sent)))
        self.assertEqual(receiver.missing, [])

    def test_lost_frames_are_listed_across_the_wrap(self):
        sender, receiver = Sender(STATION, first=65533), Receiver(STATION)
        wires = [sender.heartbeat() for _ in range(6)]
        receiver.feed(wires[0] + wires[4] + wires[5])
        self.assertEqual(receiver.missing, [65534, 65535, 0])

    def test_restart_is_not_a_gap(self):
        receiver = Receiver(STATION)
        receiver.feed(Sender(STATION, first=900).heartbeat() + Sender(STATION).heartbeat())
        self.assertEqual(receiver.missing, [])


if __name__ == "__main__":
    unittest.main()
