import io
import unittest

from sluicer import AGGREGATES, Event, First, Fixed, Last, Pipeline, Session, read_events, table
from sluicer.__main__ import main
from sluicer.event import LineError


class PipelineTests(unittest.TestCase):
    def test_results_come_with_the_watermark(self):
        results = []
        pipe = Pipeline(Fixed(10), emit=results.append, allowed_lateness=5)
        pipe.feed_all([Event("a", 1), Event("a", 12)])
        self.assertEqual((results, pipe.watermark), ([], 7))
        pipe.feed(Event("a", 16))
        self.assertEqual([(r.start, r.count) for r in results], [(0, 1)])
        self.assertEqual(pipe.open_windows(), [("a", 10, 20, 2)])

    def test_aggregates(self):
        results = []
        pipe = Pipeline(Fixed(10), AGGREGATES, emit=results.append)
        pipe.feed_all([Event("a", 3, 4.0), Event("a", 1, 2.0), Event("a", 5, 9.0)])
        pipe.close()
        self.assertEqual(results[0].values, {
            "total": 15.0, "mean": 5.0, "smallest": 2.0, "largest": 9.0, "first": 2.0, "last": 9.0})

    def test_equal_times_go_by_arrival(self):
        results = []
        pipe = Pipeline(Fixed(10), {"first": First, "last": Last}, emit=results.append)
        pipe.feed_all([Event("a", 1, "x"), Event("a", 1, "y")])
        pipe.close()
        self.assertEqual(results[0].values, {"first": "x", "last": "y"})


class TextTests(unittest.TestCase):
    def test_events_of_lines(self):
        self.assertEqual(list(read_events(["# no event\n", "\n", "a 1\n", "b 2.5 7\n"])),
                         [Event("a", 1.0, 1.0), Event("b", 2.5, 7.0)])
        for line in ("a", "a x", "a 1 2 3"):
            with self.assertRaises(LineError, msg=line):
                list(read_events([line]))

    def test_tables(self):
        results = []
        pipe = Pipeline(Session(5), {"mean": AGGREGATES["mean"]}, emit=results.append)
        pipe.feed_all([Event("door", 1.0, 1.0), Event("door", 2.0, 2.0)])
        pipe.close()
        self.assertEqual(table(results), "key   start  end  count  mean\ndoor  1      2    2      1.500")
        self.assertEqual(table([]), "")

    def test_command_line(self):
        out = io.StringIO()
        self.assertEqual(main(["fixed", "10"], ["a 1", "a 25", "a 2"], out), 0)
        self.assertIn("1 late", out.getvalue())
        self.assertEqual(main(["hourly"], [], io.StringIO()), 2)


if __name__ == "__main__":
    unittest.main()
