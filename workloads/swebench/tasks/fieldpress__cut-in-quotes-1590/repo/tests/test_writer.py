"""Writing rows so that they read back."""

import unittest

from fieldpress import Dialect, format_row, read_text, write_text


class WriterTests(unittest.TestCase):
    def test_only_what_must_be_is_quoted(self):
        self.assertEqual(format_row(["a b", "c,d", 'say "hi"', 7]), 'a b,"c,d","say ""hi""",7')

    def test_single_empty_field(self):
        self.assertEqual(write_text([[""], ["a"]]), '""\na\n')

    def test_null(self):
        dialect = Dialect(null="NA")
        self.assertEqual(format_row([None, "NA"], dialect), 'NA,"NA"')
        with self.assertRaises(ValueError):
            format_row([None])

    def test_reads_back(self):
        rows = [["a", 'b"c', "d\r\ne"], ["", "f\\g", ",;"], [""]]
        for dialect in (Dialect(), Dialect(delimiter=";", newline="\r\n"),
                        Dialect(escape="\\"), Dialect(quote="'", strict=True)):
            with self.subTest(dialect=dialect):
                self.assertEqual(read_text(write_text(rows, dialect), dialect), rows)
