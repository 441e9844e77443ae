import unittest

from boxwood import Archive, NoSuchEntry


class ArchiveTests(unittest.TestCase):
    def setUp(self):
        self.box = Archive.create(chunk_size=4)

    def test_add_and_read(self):
        for data in (b"", b"a", b"abcd", b"abcdefghi", bytes(range(256))):
            self.box.add("x", data)
            self.assertEqual((self.box.read("x"), self.box.size("x")), (data, len(data)))

    def test_equal_chunks_are_stored_once(self):
        self.box.add("x", b"aaaabbbb")
        self.box.add("y", b"bbbbaaaa")
        self.assertEqual(self.box.bytes_held(), 8)

    def test_names(self):
        for name in ("b", "a/c", "a b"):
            self.box.add(name, b"")
        self.assertEqual(self.box.names(), ["a b", "a/c", "b"])
        for name in ("", "/a", "a//b", "../a", "a/.", "a\0b"):
            with self.assertRaises(ValueError, msg=name):
                self.box.add(name, b"")

    def test_missing_names(self):
        for call in (lambda: self.box.read("x"), lambda: self.box.remove("x"), lambda: self.box.copy("x", "y"),
                     lambda: self.box.rename("x", "y"), lambda: self.box.truncate("x", 0)):
            with self.assertRaises(NoSuchEntry):
                call()

    def test_rename(self):
        self.box.add("x", b"12345", mode=0o600)
        self.box.rename("x", "y")
        self.assertEqual((self.box.names(), self.box.read("y"), self.box.mode("y")), (["y"], b"12345", 0o600))

    def test_copy(self):
        self.box.add("x", b"12345")
        self.box.copy("x", "y")
        self.assertEqual((self.box.read("x"), self.box.read("y")), (b"12345", b"12345"))

    def test_truncate(self):
        for size in range(11):
            self.box.add("x", b"0123456789")
            self.box.truncate("x", size)
            self.assertEqual(self.box.read("x"), b"0123456789"[:size])

    def test_compact_lets_a_single_file_go(self):
        self.box.add("x", b"aaaabbbb")
        self.box.add("y", b"cccc")
        self.box.remove("x")
        self.assertEqual((self.box.compact(), self.box.bytes_held()), (8, 4))
        self.assertEqual(self.box.read("y"), b"cccc")

    def test_check_of_a_sound_archive(self):
        self.box.add("x", b"aaaabbbb")
        self.box.add("y", b"cccc")
        self.assertEqual(self.box.check(), [])


if __name__ == "__main__":
    unittest.main()
