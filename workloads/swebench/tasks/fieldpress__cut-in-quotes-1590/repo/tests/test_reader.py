"""Reading rows, in one piece and in several."""

import io
import unittest

from fieldpress import DamagedText, Dialect, RowReader, read_stream, read_text


class TextTests(unittest.TestCase):
    def test_plain_rows(self):
        self.assertEqual(read_text("a,b\nc,,\n"), [["a", "b"], ["c", "", ""]])

    def test_quotes(self):
        self.assertEqual(read_text('"a, b","say ""hi""",""\n'), [["a, b", 'say "hi"', ""]])

    def test_row_over_two_lines(self):
        self.assertEqual(read_text('1,"two\nlines"\n2,x'), [["1", "two\nlines"], ["2", "x"]])

    def test_line_endings(self):
        text = "a\r\nb\rc\n\r\nd"
        self.assertEqual(read_text(text), [["a"], ["b"], ["c"], ["d"]])
        self.assertEqual(read_text(text, Dialect(skip_blank=False)),
                         [["a"], ["b"], ["c"], [], ["d"]])

    def test_escape(self):
        dialect = Dialect(escape="\\")
        self.assertEqual(read_text('a\\,b,"say \\"hi\\""\n', dialect), [["a,b", 'say "hi"']])

    def test_null_is_unquoted(self):
        self.assertEqual(read_text('NA,"NA",\n', Dialect(null="NA")), [[None, "NA", ""]])

    def test_lenient_about_text_behind_a_quote(self):
        self.assertEqual(read_text('"a"b,c\n"d'), [["ab", "c"], ["d"]])

    def test_strict(self):
        for text, line in (('a\n"b"c\n', 2), ('a\n"b\nc', 3)):
            with self.subTest(text=text), self.assertRaises(DamagedText) as caught:
                read_text(text, Dialect(strict=True))
            self.assertEqual(caught.exception.line, line)


class PieceTests(unittest.TestCase):
    def test_rows_come_when_they_are_complete(self):
        reader = RowReader()
        self.assertEqual(reader.feed("a,b\nc"), [["a", "b"]])
        self.assertEqual(reader.feed("c,d\n"), [["cc", "d"]])
        self.assertEqual(reader.feed('"e'), [])
        self.assertEqual(reader.feed(', f",g'), [])
        self.assertEqual(reader.close(), [["e, f", "g"]])

    def test_closed_reader(self):
        reader = RowReader()
        reader.close()
        with self.assertRaises(ValueError):
            reader.feed("a")

    def test_stream(self):
        text = "id,name\n1,bolt\n2,nut\n"
        for chunk in (1, 4, 7, 100):
            with self.subTest(chunk=chunk):
                self.assertEqual(list(read_stream(io.StringIO(text), chunk=chunk)),
                                 [["id", "name"], ["1", "bolt"], ["2", "nut"]])
