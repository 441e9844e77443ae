import unittest

from tarnlink import DATA, Deframer, Frame, encode_frame


class DeframerTests(unittest.TestCase):
    FRAMES = [Frame(DATA, 1, b"first"), Frame(DATA, 2, b"~second}"), Frame(DATA, 3, b"")]

    def test_any_chunk_size(self):
        wire = b"".join(encode_frame(frame) for frame in self.FRAMES)
        for size in range(1, len(wire) + 1):
            deframer = Deframer()
            frames = []
            for start in range(0, len(wire), size):
                frames.extend(deframer.feed(wire[start:start + size]))
            self.assertEqual(frames, self.FRAMES, size)
            self.assertEqual(deframer.stats.frames, 3)

    def test_flag_may_be_shared(self):
        wire = b"".join(encode_frame(frame)[:-1] for frame in self.FRAMES) + b"~"
        self.assertEqual(Deframer().feed(wire), self.FRAMES)

    def test_noise_is_counted(self):
        deframer = Deframer()
        good = encode_frame(self.FRAMES[0])
        stream = (b"\x00\x01" + good + b"\x01\x00\x09level\x12\x34" + good
                  + b"\x01\x00\x7d\x00\x01\x02" + good)
        self.assertEqual(len(deframer.feed(stream)), 3)
        self.assertEqual(str(deframer.stats), "3 frames, 1 runts, 1 malformed, 1 checksum errors")

    def test_endless_noise_is_dropped(self):
        deframer = Deframer()
        self.assertEqual(deframer.feed(b"\x55" * 5000), [])
        self.assertEqual(deframer.feed(encode_frame(self.FRAMES[0])), self.FRAMES[:1])
        self.assertEqual(deframer.stats.malformed, 1)


class NoiseTests(unittest.TestCase):
    def test_short_frame_full_of_escapes_is_a_runt(self):
        deframer = Deframer()
        self.assertEqual(deframer.feed(bytes.fromhex("7e7d5e7d5ea9007e")), [])
        self.assertEqual(str(deframer.stats), "0 frames, 1 runts, 0 malformed, 0 checksum errors")

    def test_longest_frame_full_of_escapes_is_accepted(self):
        frame = Frame(0x7E, 0x7D7D, b"~" * 1024)
        self.assertEqual(Deframer().feed(encode_frame(frame)), [frame])


if __name__ == "__main__":
    unittest.main()
