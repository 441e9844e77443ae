import unittest

from markloom import to_html


class BlockTests(unittest.TestCase):
    def check(self, source, html):
        self.assertEqual(to_html(source), html)

    def test_headings(self):
        self.check("# One\n## Two ##\ntext", "<h1>One</h1>\n<h2>Two</h2>\n<p>text</p>")

    def test_paragraphs_are_joined(self):
        self.check("one\n  two\n\nthree", "<p>one two</p>\n<p>three</p>")

    def test_lists(self):
        self.check("* one\n* two\n\n  more\n\n3. three\n4. four",
                   "<ul>\n<li>one</li>\n<li>\n<p>two</p>\n<p>more</p>\n</li>\n</ul>\n"
                   '<ol start="3">\n<li>three</li>\n<li>four</li>\n</ol>')

    def test_nested_lists(self):
        self.check("- a\n  - b\n- c", "<ul>\n<li>\n<p>a</p>\n<ul>\n<li>b</li>\n</ul>\n</li>\n<li>c</li>\n</ul>")

    def test_quotes(self):
        self.check("> a\n> * b", "<blockquote>\n<p>a</p>\n<ul>\n<li>b</li>\n</ul>\n</blockquote>")

    def test_code(self):
        self.check("```py\na < b\n\n* c\n```\nd", '<pre><code class="language-py">a &lt; b\n\n* c</code></pre>\n<p>d</p>')

    def test_rules(self):
        self.check("a\n---\nb", "<p>a</p>\n<hr>\n<p>b</p>")

    def test_lines_with_bars_are_paragraphs(self):
        self.check("| a | b |\nc", "<p>| a | b | c</p>")


class InlineTests(unittest.TestCase):
    def check(self, source, html):
        self.assertEqual(to_html(source), "<p>%s</p>" % html)

    def test_spans(self):
        self.check("a *b* **c *d* e** `f*g*`", "a <em>b</em> <strong>c <em>d</em> e</strong> <code>f*g*</code>")

    def test_links(self):
        self.check("see [the *page*](a.html?x=1&y=2)", 'see <a href="a.html?x=1&amp;y=2">the <em>page</em></a>')

    def test_marks_without_partner(self):
        self.check("2 * 3 ` [x]", "2 * 3 ` [x]")

    def test_escapes(self):
        self.check(r"\*a\* \[b\](c) \| \x", r"*a* [b](c) | \x")


if __name__ == "__main__":
    unittest.main()
