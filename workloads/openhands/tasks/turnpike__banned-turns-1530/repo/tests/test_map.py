import unittest

from turnpike import Map, MapError, Road


class MapTests(unittest.TestCase):
    def test_roads(self):
        town = Map.read("road a b 100 # main\n\nroad b c 50 oneway speed 30\nroad a b 80\nroad a b 90")
        self.assertEqual(town.junctions(), ["a", "b", "c"])
        self.assertEqual(town.roads_from("b"), [Road("b", "a", 80.0, 50.0), Road("b", "c", 50.0, 30.0)])
        self.assertEqual(town.roads_from("c"), [])
        self.assertIn("c", town)

    def test_bans_and_places(self):
        town = Map.read("ban a b c\nat a 1 -2.5")
        self.assertTrue(town.is_banned("a", "b", "c"))
        self.assertFalse(town.is_banned("c", "b", "a"))
        self.assertEqual((town.place("a"), town.place("b")), ((1.0, -2.5), None))

    def test_lines_that_cannot_be_used(self):
        for line in ("road a b", "road a b x", "road a b -1", "road a a 5", "road a b 5 fast", "ban a b", "street a b 5",
                     "road a b 5 speed", "road a b 5 speed 0"):
            with self.assertRaises(MapError, msg=line) as caught:
                Map.read("road a b 1\n" + line)
            self.assertEqual(caught.exception.line, 2)


if __name__ == "__main__":
    unittest.main()
