import math
import unittest

from quillfind import Index, words


class WordTests(unittest.TestCase):
    def test_words(self):
        self.assertEqual(words("Don't STOP, ça va_bien 42!"), ["don't", "stop", "ça", "va", "bien", "42"])


class SearchTests(unittest.TestCase):
    def setUp(self):
        self.index = Index(stop_words={"the", "of"})
        self.index.add("a", "Red apples, red pears")
        self.index.add("b", "Green apples")
        self.index.add("c", "The colour of pears")

    def found(self, query):
        return sorted(name for name, _score in self.index.search(query))

    def test_all_words_are_needed(self):
        self.assertEqual(self.found("apples"), ["a", "b"])
        self.assertEqual(self.found("apples RED"), ["a"])
        self.assertEqual(self.found("apples colour"), [])
        self.assertEqual(self.found(""), [])
        self.assertEqual(self.found("the"), [])

    def test_or(self):
        self.assertEqual(self.found("green OR colour"), ["b", "c"])

    def test_phrases(self):
        self.assertEqual(self.found('"green apples"'), ["b"])
        self.assertEqual(self.found('"red pears"'), ["a"])

    def test_only_exclusions(self):
        self.assertEqual(self.found("-red"), [])

    def test_scores(self):
        self.assertEqual(self.index.search("red"), [("a", 2 / 4 * math.log(1 + 3 / 1))])
        self.assertEqual(self.index.search("pears"), [("c", 1 / 2 * math.log(1 + 3 / 2)), ("a", 1 / 4 * math.log(1 + 3 / 2))])
        self.assertEqual(len(self.index.search("pears OR apples", limit=2)), 2)

    def test_documents(self):
        self.assertEqual((len(self.index), "a" in self.index, self.index.length("c")), (3, True, 2))
        self.index.remove("a")
        self.assertEqual(self.index.names(), ["b", "c"])
        self.assertEqual(self.found("red"), [])
        with self.assertRaises(KeyError):
            self.index.remove("a")

    def test_vocabulary(self):
        self.assertEqual(self.index.vocabulary()[:3], [("apples", 2), ("pears", 2), ("colour", 1)])


if __name__ == "__main__":
    unittest.main()
