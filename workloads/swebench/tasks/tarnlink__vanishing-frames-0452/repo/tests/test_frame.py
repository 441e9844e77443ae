import unittest

from tarnlink import DATA, HEARTBEAT, Frame, FrameError, decode_frame, encode_frame
from tarnlink.crc import crc16
from tarnlink.stuffing import stuff, unstuff


class StuffingTests(unittest.TestCase):
    def test_flag_and_escape_are_replaced(self):
        self.assertEqual(stuff(bytes.fromhex("017e027d5e")), bytes.fromhex("017d5e027d5d5e"))

    def test_round_trip_of_all_bytes(self):
        self.assertEqual(unstuff(stuff(bytes(range(256)))), bytes(range(256)))

    def test_impossible_escapes_are_refused(self):
        for text in ("017d", "7d00", "7d7d"):
            with self.assertRaises(FrameError):
                unstuff(bytes.fromhex(text))


class FrameTests(unittest.TestCase):
    def test_checksum_of_the_usual_sample(self):
        self.assertEqual(crc16(b"123456789"), 0x29B1)

    def test_wire_bytes(self):
        self.assertEqual(encode_frame(Frame(HEARTBEAT, 1)).hex(), "7e020001b2dd7e")

    def test_payload_and_header_are_stuffed(self):
        wire = encode_frame(Frame(DATA, 0x7E7D, b"~}"))
        self.assertEqual(wire[:-3].hex(), "7e017d5e7d5d7d5e7d5d")
        self.assertEqual(wire.count(0x7E), 2)

    def test_round_trip(self):
        for payload in (b"", b"level", b"\x7e\x7d\x20", bytes(range(256))):
            frame = Frame(DATA, 7, payload)
            self.assertEqual(decode_frame(encode_frame(frame)[1:-1]), frame)

    def test_damage_is_noticed(self):
        wire = encode_frame(Frame(DATA, 7, b"level"))
        with self.assertRaises(FrameError) as caught:
            decode_frame(wire[1:-1].replace(b"v", b"w"))
        self.assertEqual(caught.exception.kind, "checksum")


if __name__ == "__main__":
    unittest.main()
