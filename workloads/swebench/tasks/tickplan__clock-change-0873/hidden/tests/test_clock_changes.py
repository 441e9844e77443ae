import unittest
from datetime import datetime, timedelta
from itertools import islice

from tickplan import CronExpr, Zone, next_run, prev_run, runs_between
from tickplan.agenda import stamp

from .test_zones import HARBOUR

SPRING = datetime(2025, 3, 30, 1)
AUTUMN = datetime(2025, 10, 26, 1)
HOUR = timedelta(hours=1)


def some_runs(text, zone, start, count):
    return list(islice(runs_between(CronExpr(text), zone, start,
                                    start + timedelta(days=30)), count))


class RunAtTheChangeTests(unittest.TestCase):
    def test_daily_job_at_the_end_of_the_gap(self):
        self.assertEqual(next_run(CronExpr("0 3 * * *"), HARBOUR,
                                  SPRING - 13 * HOUR), SPRING)

    def test_hourly_job_in_spring(self):
        self.assertEqual(some_runs("@hourly", HARBOUR, SPRING - 3 * HOUR, 5),
                         [SPRING + n * HOUR for n in range(-2, 3)])

    def test_hourly_job_in_autumn(self):
        self.assertEqual(some_runs("@hourly", HARBOUR, AUTUMN - 3 * HOUR, 5),
                         [AUTUMN + n * HOUR for n in range(-2, 3)])

    def test_repeated_full_hour_runs_twice(self):
        self.assertEqual(some_runs("0 2 * * *", HARBOUR, AUTUMN - 9 * HOUR, 3),
                         [AUTUMN - HOUR, AUTUMN, AUTUMN + 24 * HOUR])

    def test_after_the_run_at_the_change_comes_the_next_one(self):
        expr = CronExpr("*/30 * * * *")
        for change in (SPRING, AUTUMN):
            self.assertEqual(next_run(expr, HARBOUR, change), change + HOUR / 2)

    def test_forwards_and_backwards_agree(self):
        expr = CronExpr("0,45 * * * *")
        for change in (SPRING, AUTUMN):
            moment = change - 5 * HOUR
            for _ in range(20):
                run = next_run(expr, HARBOUR, moment)
                self.assertGreater(run, moment)
                self.assertEqual(prev_run(expr, HARBOUR, run + HOUR / 60), run)
                self.assertLessEqual(prev_run(expr, HARBOUR, run), moment)
                moment = run

    def test_every_minute_of_an_odd_zone(self):
        zone = Zone.with_changes("Skerry", -30, [
            ("2025-04-01 10:15", 0), ("2025-04-01 10:45", -30),
            ("2025-04-01 12:00", -105)])
        table = [(datetime(2025, 4, 1, 12), -105), (datetime(2025, 4, 1, 10, 45), -30),
                 (datetime(2025, 4, 1, 10, 15), 0), (datetime.min, -30)]
        expr, start = CronExpr("*/15 * * * *"), datetime(2025, 4, 1, 8)
        wanted = []
        for minute in range(1, 400):
            instant = start + timedelta(minutes=minute)
            offset = next(offset for since, offset in table if instant >= since)
            if expr.matches(instant + timedelta(minutes=offset)):
                wanted.append(instant)
        self.assertEqual(some_runs(expr.text, zone, start, len(wanted)), wanted)

    def test_stamp_at_the_change(self):
        self.assertEqual(stamp(HARBOUR, SPRING), "2025-03-30 03:00 +02:00")
        self.assertEqual(stamp(HARBOUR, AUTUMN), "2025-10-26 02:00 +01:00")


class AwayFromTheChangeTests(unittest.TestCase):
    def test_full_hour_inside_the_gap_does_not_run(self):
        self.assertEqual(next_run(CronExpr("0 2 * * *"), HARBOUR,
                                  SPRING - 12 * HOUR), SPRING + 23 * HOUR)

    def test_prev_run_finds_the_run_at_the_change(self):
        self.assertEqual(prev_run(CronExpr("0 3 * * *"), HARBOUR,
                                  SPRING + 2 * HOUR), SPRING)

    def test_prev_run_is_strict_at_the_change(self):
        self.assertEqual(prev_run(CronExpr("@hourly"), HARBOUR, SPRING),
                         SPRING - HOUR)

    def test_rare_job_far_beyond_the_last_change(self):
        self.assertEqual(next_run(CronExpr("0 12 29 2 *"), HARBOUR, SPRING),
                         datetime(2028, 2, 29, 11))
