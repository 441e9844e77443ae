"""Delimited text in many dialects, and text tables."""

from .dialect import Dialect
from .preview import preview
from .reader import DamagedText, RowReader, read_path, read_stream, read_text
from .table import render_table
from .writer import format_row, write_text

__all__ = [
    "DamagedText",
    "Dialect",
    "RowReader",
    "format_row",
    "preview",
    "read_path",
    "read_stream",
    "read_text",
    "render_table",
    "write_text",
]
