"""centbridge: match a bank statement with a ledger and report what is left."""

from .candidate import Candidate
from .matcher import Outcome, reconcile
from .money import MoneyError, format_money, parse_money
from .readers import RowError, read_ledger, read_statement
from .records import Record, Rules
from .report import render_report

__all__ = [
    "Candidate", "MoneyError", "Outcome", "Record", "RowError", "Rules", "format_money",
    "parse_money", "read_ledger", "read_statement", "reconcile", "render_report",
]
