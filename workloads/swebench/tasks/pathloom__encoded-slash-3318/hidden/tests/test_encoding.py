import unittest

from pathloom import BadPath
from pathloom.encoding import canonical, clean, decode, encode, split_target


class CanonicalTests(unittest.TestCase):
    def test_spellings_agree(self):
        self.assertEqual(canonical("/%7eann"), "/~ann")
        self.assertEqual(canonical("/%e2%82%ac"), "/%E2%82%AC")
        self.assertEqual(canonical("/\u20ac"), "/%E2%82%AC")

    def test_percent_sign_is_not_decoded_twice(self):
        self.assertEqual(canonical("/%2541"), "/%2541")
        self.assertEqual(canonical("/100%"), "/100%25")

    def test_escaped_slash_stays_escaped(self):
        self.assertEqual(canonical("/a%2fb/c"), "/a%2Fb/c")
        self.assertEqual(canonical("/%252F"), "/%252F")

    def test_not_utf8(self):
        with self.assertRaises(BadPath):
            canonical("/%ff")

    def test_decode_and_encode(self):
        self.assertEqual(decode("a%20b"), "a b")
        self.assertEqual(encode("a b?"), "a%20b%3F")


class CleanTests(unittest.TestCase):
    def test_dots_and_doubled_slashes(self):
        self.assertEqual(clean("/a/./b//../c/"), "/a/c/")
        self.assertEqual(clean("/../.."), "/")

    def test_encoded_dots_are_dots(self):
        self.assertEqual(clean("/a/%2E%2e/b"), "/b")

    def test_escaped_slash_is_no_separator(self):
        self.assertEqual(clean("/a%2F../b"), "/a%2F../b")
        self.assertEqual(clean("/a/%2F/../b"), "/a/b")

    def test_relative(self):
        with self.assertRaises(BadPath):
            clean("a/b")

    def test_split_target(self):
        self.assertEqual(split_target("/a?b=1#c"), ("/a", "b=1"))
        self.assertEqual(split_target("/a"), ("/a", None))
