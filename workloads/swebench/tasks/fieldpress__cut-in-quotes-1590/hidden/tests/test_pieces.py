"""The rows of a text do not depend on where it is cut into pieces."""

import io
import os
import tempfile
import unittest

from fieldpress import DamagedText, Dialect, RowReader, preview, read_path, read_stream, read_text

STRICT = Dialect(strict=True)


class CutTests(unittest.TestCase):
    def check(self, text, rows, dialect=None):
        self.assertEqual(read_text(text, dialect), rows)
        for cut in range(len(text) + 1):
            reader = RowReader(dialect)
            got = reader.feed(text[:cut]) + reader.feed(text[cut:]) + reader.close()
            self.assertEqual(got, rows, f"cut before {text[cut:cut + 6]!r}")
        for chunk in range(1, len(text) + 1):
            got = list(read_stream(io.StringIO(text, newline=""), dialect, chunk))
            self.assertEqual(got, rows, f"pieces of {chunk}")

    def test_plain_fields(self):
        self.check("id,name\n1,bolt\n\n2,nut", [["id", "name"], ["1", "bolt"], ["2", "nut"]])

    def test_quoted_fields(self):
        self.check('1,"a, b"\n"two\nlines",2\n', [["1", "a, b"], ["two\nlines", "2"]])
        self.check('1,"a, b"\n"two\nlines",2\n', [["1", "a, b"], ["two\nlines", "2"]], STRICT)

    def test_doubled_quotes(self):
        text = '1,"a ""b, c"" d",x\n2,"""q""",y\n'
        self.check(text, [["1", 'a "b, c" d', "x"], ["2", '"q"', "y"]])

    def test_doubled_quotes_in_a_strict_dialect(self):
        text = '1,"a ""b, c"" d",x\n2,"""q""",y\n'
        self.check(text, [["1", 'a "b, c" d', "x"], ["2", '"q"', "y"]], STRICT)

    def test_quotes_at_the_end_of_the_text(self):
        self.check('1,"a"""', [["1", 'a"']], STRICT)
        self.check('1,"a"', [["1", "a"]], STRICT)
        self.check('1,""', [["1", ""]], STRICT)

    def test_blank_lines_between_carriage_returns(self):
        dialect = Dialect(skip_blank=False)
        self.check("a,b\r\nc,d\r\n", [["a", "b"], ["c", "d"]], dialect)
        self.check("a\r\n\r\nb\r\rc\r", [["a"], [], ["b"], [], ["c"]], dialect)

    def test_lone_carriage_returns(self):
        self.check("a,b\rc,d\r", [["a", "b"], ["c", "d"]])
        self.check("a\n\nb\n", [["a"], [], ["b"]], Dialect(skip_blank=False))

    def test_escape_between_quotes(self):
        self.check('"say \\"hi, you\\"",x\n', [['say "hi, you"', "x"]], Dialect(escape="\\"))

    def test_escape_outside_quotes(self):
        self.check("a\\,b,c\\\\,d\n", [["a,b", "c\\", "d"]], Dialect(escape="\\"))

    def test_text_behind_a_quote(self):
        self.check('"a"b,c\n', [["ab", "c"]])


class LineTests(unittest.TestCase):
    def line(self, text, chunk):
        with self.assertRaises(DamagedText) as caught:
            list(read_stream(io.StringIO(text, newline=""), STRICT, chunk))
        return caught.exception.line

    def test_line_of_damage(self):
        for chunk in (1, 2, 3, 5, 50):
            with self.subTest(chunk=chunk):
                self.assertEqual(self.line('a,b\n"c\nd",e\n"f"g\n', chunk), 4)

    def test_line_of_damage_behind_carriage_returns(self):
        for chunk in (1, 2, 3, 4, 5, 50):
            with self.subTest(chunk=chunk):
                self.assertEqual(self.line('a,b\r\n"c",e\r\n"f"g\r\n', chunk), 3)

    def test_open_quote_at_the_end(self):
        for chunk in (1, 2, 50):
            with self.subTest(chunk=chunk):
                self.assertEqual(self.line('a\n"b""', chunk), 2)


class FileTests(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "stock.csv")

    def write(self, text):
        with open(self.path, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)

    def test_preview_does_not_depend_on_the_chunk(self):
        self.write('id,size,note\r\n1,"3"" pipe, short",new\r\n2,"4"" pipe, long",old\r\n')
        wanted = ["id  size            note", "--  --------------  ----",
                  ' 1  3" pipe, short  new', ' 2  4" pipe, long   old']
        for chunk in (1, 5, 19, 24, 8192):
            with self.subTest(chunk=chunk):
                self.assertEqual(preview(self.path, chunk=chunk).split("\n"), wanted)

    def test_default_chunk(self):
        for pad in range(8180, 8196):
            self.write("x" * pad + '\r\n1,"3"" pipe, short"\r\n')
            rows = list(read_path(self.path, Dialect(strict=True, skip_blank=False)))
            self.assertEqual(rows[1:], [["1", '3" pipe, short']], pad)
