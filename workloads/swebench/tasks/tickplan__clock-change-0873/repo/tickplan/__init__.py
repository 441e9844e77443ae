"""Cron expressions and the instants at which they fire."""

from .agenda import agenda
from .expr import CronExpr
from .fields import CronError
from .schedule import Job, Planner, next_run, prev_run, runs_between
from .zones import Segment, Zone

__all__ = ["CronError", "CronExpr", "Job", "Planner", "Segment", "Zone",
           "agenda", "next_run", "prev_run", "runs_between"]
