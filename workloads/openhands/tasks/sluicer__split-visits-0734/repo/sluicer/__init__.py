"""sluicer: windows over streams of events."""

from .aggregates import AGGREGATES, First, Largest, Last, Mean, Smallest, Total
from .event import Event, read_events
from .pipeline import Pipeline, Result
from .report import table
from .windows import Fixed, Session, Sliding

__all__ = [
    "AGGREGATES", "Event", "First", "Fixed", "Largest", "Last", "Mean", "Pipeline", "Result",
    "Session", "Sliding", "Smallest", "Total", "read_events", "table",
]
