import random
import struct
import unittest
import zlib

from boxwood import Archive, Damaged


class SharingTests(unittest.TestCase):
    def setUp(self):
        self.box = Archive.create(chunk_size=4)

    def test_a_removed_neighbour(self):
        self.box.add("mon", b"aaaabbbbcccc")
        self.box.add("tue", b"aaaabbbbdddd")
        self.box.remove("mon")
        self.assertEqual(self.box.compact(), 4)
        self.assertEqual((self.box.read("tue"), self.box.check()), (b"aaaabbbbdddd", []))

    def test_replaced_by_the_same(self):
        self.box.add("x", b"aaaabbbb")
        self.box.add("x", b"aaaabbbb")
        self.assertEqual(self.box.compact(), 0)
        self.assertEqual(self.box.read("x"), b"aaaabbbb")
        self.box.remove("x")
        self.assertEqual(self.box.compact(), 8)

    def test_twice_in_one_file(self):
        self.box.add("x", b"aaaaaaaa")
        self.box.add("y", b"aaaa")
        self.box.remove("y")
        self.box.compact()
        self.assertEqual(self.box.read("x"), b"aaaaaaaa")

    def test_copies(self):
        self.box.add("x", b"aaaabb")
        self.box.copy("x", "y")
        self.box.copy("x", "x")
        self.box.remove("x")
        self.box.compact()
        self.assertEqual((self.box.read("y"), self.box.check()), (b"aaaabb", []))

    def test_rename_over_a_sharing_file(self):
        self.box.add("x", b"aaaabbbb")
        self.box.add("y", b"aaaacccc")
        self.box.rename("x", "y")
        self.assertEqual(self.box.compact(), 4)
        self.assertEqual((self.box.read("y"), self.box.check()), (b"aaaabbbb", []))

    def test_truncate_lets_chunks_go(self):
        self.box.add("x", b"aaaabbbbcccc")
        self.box.truncate("x", 4)
        self.assertEqual((self.box.compact(), self.box.bytes_held()), (8, 4))
        self.box.truncate("x", 2)
        self.assertEqual((self.box.compact(), self.box.read("x"), self.box.check()), (4, b"aa", []))
        self.box.truncate("x", 0)
        self.assertEqual((self.box.compact(), self.box.read("x")), (2, b""))

    def test_random_histories(self):
        dice = random.Random(4)
        for _ in range(40):
            box, files = Archive.create(chunk_size=3), {}
            for _ in range(60):
                name, other = dice.choice("abcd"), dice.choice("abcd")
                action = dice.randrange(6)
                if action < 2 or name not in files:
                    files[name] = bytes(dice.choice(b"xy") for _ in range(dice.randrange(12)))
                    box.add(name, files[name])
                elif action == 2:
                    box.remove(name)
                    del files[name]
                elif action == 3:
                    box.copy(name, other)
                    files[other] = files[name]
                elif action == 4:
                    box.rename(name, other)
                    files[other] = files.pop(name)
                else:
                    size = dice.randrange(12)
                    box.truncate(name, size)
                    files[name] = files[name][:size]
                self.assertEqual(box.check(), [])
                if dice.random() < 0.3:
                    box.compact()
                self.assertEqual({n: box.read(n) for n in box.names()}, files)
            box.compact()
            used = {data[i:i + 3] for data in files.values() for i in range(0, len(data), 3)}
            self.assertEqual(box.bytes_held(), sum(map(len, used)))


def with_counts(data, count):
    """A container whose chunks all claim to be used ``count`` times."""
    body, at = bytearray(data[:-4]), 17
    for _ in range(struct.unpack(">I", data[9:13])[0]):
        struct.pack_into(">I", body, at + 16, count)
        at += 24 + struct.unpack_from(">I", body, at + 20)[0]
    return bytes(body) + struct.pack(">I", zlib.crc32(bytes(body)))


class LoadingTests(unittest.TestCase):
    def container(self):
        box = Archive.create(chunk_size=4)
        box.add("x", b"aaaabbbb")
        box.add("y", b"aaaaaaaa")
        return box.dump()

    def test_wrong_counts_are_repaired(self):
        for count in (0, 1, 7):
            box = Archive.load(with_counts(self.container(), count))
            self.assertEqual(box.check(), [])
            box.remove("y")
            self.assertEqual(box.compact(), 0)
            self.assertEqual(box.read("x"), b"aaaabbbb")
            box.remove("x")
            self.assertEqual(box.compact(), 8)

    def test_lost_chunks_do_not_keep_an_archive_shut(self):
        box = Archive.create(chunk_size=4)
        box.add("x", b"aaaabbbb")
        box.add("y", b"aaaacccc")
        lost = [key for key in box._entries["x"].keys if key not in box._entries["y"].keys]
        for key in lost:
            del box._store._chunks[key]
        box = Archive.load(box.dump())
        self.assertEqual(box.read("y"), b"aaaacccc")
        with self.assertRaises(Damaged):
            box.read("x")
        self.assertEqual(len(box.check()), 1)
        self.assertIn("x: chunk", box.check()[0])
        box.add("z", b"bbbb")
        self.assertEqual(box.read("x"), b"aaaabbbb")
        box.remove("z")
        box.compact()
        self.assertEqual((box.read("x"), box.check()), (b"aaaabbbb", []))

    def test_check_finds_wrong_counts(self):
        box = Archive.load(self.container())
        key = box._entries["x"].keys[0]
        box._store._uses[key] += 1
        self.assertEqual(len(box.check()), 1)
        self.assertIn("chunk %s" % key[:8], box.check()[0])
