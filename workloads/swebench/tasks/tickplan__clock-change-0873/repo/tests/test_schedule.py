import unittest
from datetime import datetime

from tickplan import (CronExpr, Job, Planner, Zone, agenda, next_run, prev_run,
                      runs_between)

from .test_zones import HARBOUR


class RunTests(unittest.TestCase):
    def test_wall_times_follow_the_offset(self):
        expr = CronExpr("30 4 * * *")
        runs = list(runs_between(expr, HARBOUR, datetime(2025, 3, 29),
                                 datetime(2025, 3, 31)))
        self.assertEqual(runs, [datetime(2025, 3, 29, 3, 30),
                                datetime(2025, 3, 30, 2, 30)])

    def test_skipped_wall_time_does_not_run(self):
        self.assertEqual(
            next_run(CronExpr("30 2 * * *"), HARBOUR, datetime(2025, 3, 29, 12)),
            datetime(2025, 3, 31, 0, 30))

    def test_repeated_wall_time_runs_twice(self):
        runs = list(runs_between(CronExpr("30 2 * * *"), HARBOUR,
                                 datetime(2025, 10, 26), datetime(2025, 10, 27)))
        self.assertEqual(runs, [datetime(2025, 10, 26, 0, 30),
                                datetime(2025, 10, 26, 1, 30)])

    def test_prev_run_crosses_changes(self):
        expr = CronExpr("45 1 * * *")
        self.assertEqual(prev_run(expr, HARBOUR, datetime(2025, 3, 30, 1, 10)),
                         datetime(2025, 3, 30, 0, 45))

    def test_no_run_at_all(self):
        self.assertIsNone(next_run(CronExpr("0 0 31 4 *"), HARBOUR,
                                   datetime(2025, 1, 1)))


class PlannerTests(unittest.TestCase):
    def setUp(self):
        zone = Zone.fixed("Plain", -210)
        self.planner = Planner(datetime(2025, 6, 1))
        self.planner.add(Job("b", CronExpr("0,30 * * * *"), zone))
        self.planner.add(Job("a", CronExpr("30 * * * *"), zone))

    def test_order_of_time_then_name(self):
        due = self.planner.advance(datetime(2025, 6, 1, 1))
        self.assertEqual([name for _, name in due], ["b", "a", "b"])
        self.assertEqual(self.planner.peek(), (datetime(2025, 6, 1, 1, 30), "b"))

    def test_remove(self):
        self.planner.remove("b")
        self.assertEqual(self.planner.peek(), (datetime(2025, 6, 1, 1), "a"))
        with self.assertRaises(ValueError):
            self.planner.advance(datetime(2025, 5, 31))

    def test_agenda_shows_wall_time_and_offset(self):
        jobs = [Job("tide", CronExpr("30 2 * * *"), HARBOUR),
                Job("log", CronExpr("0 0 26 * *"), HARBOUR)]
        self.assertEqual(agenda(jobs, datetime(2025, 10, 25, 12),
                                datetime(2025, 10, 26, 12)),
                         ["2025-10-26 00:00 +02:00  log",
                          "2025-10-26 02:30 +02:00  tide",
                          "2025-10-26 02:30 +01:00  tide"])
