import math
import unittest

from quillfind import Index


class HandbookTest(unittest.TestCase):
    def setUp(self):
        self.index = Index(stop_words={"the", "of", "and", "to"})
        self.index.add("a", "Change the oil of the engine")
        self.index.add("b", "Change oil, engine and filter")
        self.index.add("c", "Oil to engine, then engine engine oil change")

    def found(self, query):
        return sorted(name for name, _score in self.index.search(query))


class PhraseTests(HandbookTest):
    def test_stop_words_keep_their_place(self):
        self.assertEqual(self.found('"oil of the engine"'), ["a"])
        self.assertEqual(self.found('"oil to engine"'), ["c"])
        self.assertEqual(self.found('"oil engine"'), ["b"])

    def test_stop_words_stand_for_any_word(self):
        self.index.add("d", "oil some more engine")
        self.assertEqual(self.found('"oil of the engine"'), ["a", "d"])

    def test_stop_words_at_the_edges(self):
        self.assertEqual(self.found('"the oil"'), ["a", "b", "c"])
        self.assertEqual(self.found('"to engine engine of the"'), ["c"])

    def test_order_and_repetition(self):
        self.assertEqual(self.found('"engine engine"'), ["c"])
        self.assertEqual(self.found('"engine oil"'), ["c"])
        self.assertEqual(self.found('"oil oil"'), [])

    def test_phrases_score_like_words(self):
        self.index.add("e", "engine oil engine oil")
        self.assertEqual(self.index.search('"engine oil"'),
                         [("e", 2 / 4 * math.log(1 + 4 / 2)), ("c", 1 / 7 * math.log(1 + 4 / 2))])

    def test_words_with_hyphens_are_phrases(self):
        self.assertEqual(self.found("engine-oil"), ["c"])


class ExclusionTests(HandbookTest):
    def test_words(self):
        self.assertEqual(self.found("change -filter"), ["a", "c"])
        self.assertEqual(self.found("-filter change"), ["a", "c"])
        self.assertEqual(self.found("-filter"), [])
        self.assertEqual(self.found("change -nothing"), ["a", "b", "c"])

    def test_phrases(self):
        self.assertEqual(self.found('change -"engine oil"'), ["a", "b"])

    def test_they_score_nothing(self):
        self.assertEqual(dict(self.index.search("change -filter"))["a"], dict(self.index.search("change"))["a"])


class OrTests(HandbookTest):
    def test_or_binds_neighbours(self):
        self.index.add("d", "filter")
        self.assertEqual(self.found("change oil OR filter"), ["a", "b", "c"])
        self.assertEqual(self.found("oil OR filter change"), ["a", "b", "c"])
        self.assertEqual(self.found("filter OR engine OR nothing"), ["a", "b", "c", "d"])

    def test_or_with_phrases_and_exclusions(self):
        self.assertEqual(self.found('filter OR "engine engine" -nothing'), ["b", "c"])


class ReplacementTests(unittest.TestCase):
    def test_old_texts_are_gone(self):
        index, fresh = Index(), Index()
        for name, text in (("a", "red apple"), ("b", "green apple")):
            index.add(name, text)
        index.remove("a")
        index.add("a", "blue plum")
        index.add("b", "green pear")
        index.add("b", "blue pear")
        for name, text in (("a", "blue plum"), ("b", "blue pear")):
            fresh.add(name, text)
        for query in ("red", "apple", '"red apple"', "blue", "pear", "plum OR pear", '"green apple"', '"green pear"'):
            self.assertEqual(index.search(query), fresh.search(query), query)
        self.assertEqual(index.vocabulary(), fresh.vocabulary())
