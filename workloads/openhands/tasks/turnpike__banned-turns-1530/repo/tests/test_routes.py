import io
import tempfile
import unittest
from pathlib import Path

from turnpike import Map, NoRoute, Planner, directions
from turnpike.__main__ import main
from turnpike.geometry import angle, heading

SQUARE = """
road a b 100
road b c 100
road c d 100
road d a 100
road b d 500 speed 200
at a 0 0
at b 100 0
at c 100 100
at d 0 100
"""


class RouteTests(unittest.TestCase):
    def setUp(self):
        self.town = Map.read(SQUARE)
        self.planner = Planner(self.town)

    def test_the_shortest_way(self):
        route = self.planner.route("a", "b")
        self.assertEqual((route.junctions, route.metres, route.seconds, route.cost), (["a", "b"], 100.0, 7.2, 100.0))
        self.assertEqual(self.planner.route("b", "d").metres, 200.0)
        self.assertEqual(self.planner.route("a", "a").junctions, ["a"])

    def test_the_fastest_way(self):
        self.assertEqual(self.planner.route("b", "d", by="time").junctions, ["b", "d"])

    def test_no_way(self):
        planner = Planner(Map.read("road a b 1 oneway"))
        with self.assertRaisesRegex(NoRoute, "no way from b to a"):
            planner.route("b", "a")
        with self.assertRaises(KeyError):
            planner.route("a", "x")
        with self.assertRaises(ValueError):
            planner.route("a", "b", by="beauty")

    def test_via(self):
        self.assertEqual(self.planner.route("a", "c", via=["d"]).junctions, ["a", "d", "c"])

    def test_geometry(self):
        self.assertEqual(round(angle((0, 0), (1, 0), (1, 1))), 90)
        self.assertEqual(round(angle((0, 0), (1, 0), (0, 0))), 180)
        self.assertEqual([heading((0, 0), to) for to in ((1, 0), (0, 1), (-1, -1))], ["east", "north", "south-west"])

    def test_directions(self):
        route = self.planner.route("a", "c", via=["b"])
        self.assertEqual(directions(self.town, route), [
            "Start at a and go east.", "After 100 m at b turn left to c.", "After 100 m you are at c."])

    def test_command_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "town"
            path.write_text(SQUARE)
            for arguments, code, told in ((["a", "b"], 0, "After 100 m you are at b."), (["a", "x"], 1, "no junction x"), (["a"], 2, "usage")):
                out = io.StringIO()
                self.assertEqual(main([str(path)] + arguments, out), code)
                self.assertIn(told, out.getvalue())


if __name__ == "__main__":
    unittest.main()
