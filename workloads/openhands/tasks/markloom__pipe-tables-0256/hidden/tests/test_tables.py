import unittest

from markloom import outline, to_html, to_plain

SOURCE = """\
| Part     | Price | Left |
|:---------|------:|:----:|
| Gear `A` |  4.50 | 12   |
| *Shaft*  | 11.00 |
"""


def cells(html):
    return [line for line in html.splitlines() if line.startswith("<tr>")]


class HtmlTests(unittest.TestCase):
    def test_the_example(self):
        self.assertEqual(to_html(SOURCE), """\
<table>
<thead>
<tr><th align="left">Part</th><th align="right">Price</th><th align="center">Left</th></tr>
</thead>
<tbody>
<tr><td align="left">Gear <code>A</code></td><td align="right">4.50</td><td align="center">12</td></tr>
<tr><td align="left"><em>Shaft</em></td><td align="right">11.00</td><td align="center"></td></tr>
</tbody>
</table>""")

    def test_no_rows_and_no_alignment(self):
        self.assertEqual(to_html("|a|b\n|-|-"),
                         "<table>\n<thead>\n<tr><th>a</th><th>b</th></tr>\n</thead>\n</table>")

    def test_too_many_and_too_few_cells(self):
        self.assertEqual(cells(to_html("|a|b|\n|-|-|\n|1|2|3|\n|1|\n|")),
                         ["<tr><th>a</th><th>b</th></tr>", "<tr><td>1</td><td>2</td></tr>",
                          "<tr><td>1</td><td></td></tr>", "<tr><td></td><td></td></tr>"])

    def test_empty_cells_count(self):
        self.assertEqual(cells(to_html("|a||c|\n|-|-|-|\n||2||"))[1], "<tr><td></td><td>2</td><td></td></tr>")

    def test_bars_that_part_nothing(self):
        self.assertEqual(cells(to_html("|a|b|\n|-|-|\n|x\\|y|`1|2`|"))[1],
                         "<tr><td>x|y</td><td><code>1|2</code></td></tr>")

    def test_a_lonely_backtick_hides_no_bar(self):
        self.assertEqual(cells(to_html("|a|b|\n|-|-|\n|x`|y|"))[1], "<tr><td>x`</td><td>y</td></tr>")

    def test_text_is_escaped(self):
        self.assertIn("<td>&lt;b&gt;</td>", to_html("|a|\n|-|\n|<b>|"))


class EndTests(unittest.TestCase):
    def test_what_ends_a_table(self):
        self.assertTrue(to_html("|a|\n|-|\n|1|\ntext").endswith("</table>\n<p>text</p>"))
        self.assertTrue(to_html("|a|\n|-|\n|1|\n\n|2|").endswith("</table>\n<p>|2|</p>"))
        self.assertTrue(to_html("|a|\n|-|\n# T").endswith("</table>\n<h1>T</h1>"))

    def test_a_table_ends_a_paragraph(self):
        self.assertTrue(to_html("text\n|a|\n|-|").startswith("<p>text</p>\n<table>"))

    def test_bars_alone_end_no_paragraph(self):
        self.assertEqual(to_html("text\n|a|\nmore"), "<p>text |a| more</p>")

    def test_wrong_rule_lines(self):
        for rule in ("|-|-|", "|=|", "|::|", "| |", "-", "|-x|"):
            self.assertNotIn("<table>", to_html("|a|\n" + rule), rule)

    def test_indentation(self):
        self.assertIn("<table>", to_html("   |a|\n  |-|"))
        self.assertNotIn("<table>", to_html("    |a|\n    |-|"))

    def test_inside_of_others(self):
        self.assertEqual(to_html("> |a|\n> |-|"), "<blockquote>\n%s\n</blockquote>" % to_html("|a|\n|-|"))
        self.assertIn("<li>\n<p>x</p>\n<table>", to_html("* x\n\n  |a|\n  |-|\n  |1|"))


class PlainTests(unittest.TestCase):
    def test_the_example(self):
        self.assertEqual(to_plain(SOURCE), """\
Part    Price  Left
------  -----  ----
Gear A   4.50   12
Shaft   11.00""")

    def test_narrow_columns_and_odd_blanks(self):
        self.assertEqual(to_plain("|a|b|\n|:-:|-:|\n|xx|y|\n|x|wide|"), " a      b\n---  ----\nxx      y\n x   wide")

    def test_in_a_list(self):
        self.assertEqual(to_plain("1. |a|\n   |-|\n   |1|"), "1. a\n   ---\n   1")


class OutlineTests(unittest.TestCase):
    def test_headings_only(self):
        self.assertEqual(outline("# A\n|x|\n|-|\n| # no |\n## B"), [(1, "A"), (2, "B")])
