import unittest

from rilltext import Template, TemplateError


def text(source, **values):
    return Template(source).render(**values)


class BranchTests(unittest.TestCase):
    SOURCE = "{% if t > 100 %}free{% elif t > 50 %}5{% elif t > 20 %}8{% else %}10{% endif %}"

    def test_the_first_true_branch(self):
        self.assertEqual([text(self.SOURCE, t=t) for t in (200, 60, 30, 1)], ["free", "5", "8", "10"])

    def test_only_one_branch(self):
        self.assertEqual(text("{% if a %}1{% elif a %}2{% endif %}", a=True), "1")
        self.assertEqual(text("{% if a %}1{% elif b %}2{% endif %}."), ".")

    def test_nesting(self):
        source = "{% if a %}{% if b %}ab{% else %}a{% endif %}{% else %}{% for x in l %}{{ x }}{% else %}-{% endfor %}{% endif %}"
        self.assertEqual([text(source, a=1, b=1), text(source, a=1), text(source, l=[7]), text(source)], ["ab", "a", "7", "-"])

    def test_loops_with_else(self):
        source = "{% for x in l %}{{ x }}{% else %}empty{% endfor %}"
        self.assertEqual([text(source, l=l) for l in ([1, 2], [], None, iter(()))], ["12", "empty", "empty", "empty"])

    def test_wrong_places(self):
        for source, told in (("a\n{% else %}", "line 2: unexpected else"),
                             ("{% if a %}{% else %}\n{% elif b %}{% endif %}", "line 2: unexpected elif"),
                             ("{% if a %}{% else %}\n\n{% else %}{% endif %}", "line 3: unexpected else"),
                             ("{% for a in b %}\n{% elif b %}{% endfor %}", "line 2: unexpected elif"),
                             ("\n{% if a %}\n{% else %}\n", "line 2: if without its end"),
                             ("{% for a in b %}{% endif %}", "line 1: unexpected endif")):
            with self.assertRaises(TemplateError) as caught:
                Template(source)
            self.assertEqual(str(caught.exception), told)


class LoopTests(unittest.TestCase):
    def test_attributes(self):
        source = "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.length }}{{ loop.first }}{{ loop.last }} {% endfor %}"
        self.assertEqual(text(source, l="ab"), "102TrueFalse 212FalseTrue ")

    def test_generators(self):
        self.assertEqual(text("{% for x in g %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}", g=(i for i in (1, 2, 3))),
                         "1, 2, 3")

    def test_parents(self):
        source = "{% for x in l %}{% for y in l %}{{ loop.parent.index }}{{ loop.index }} {% endfor %}{{ loop.parent }}{% endfor %}"
        self.assertEqual(text(source, l="ab"), "11 12 21 22 ")

    def test_names_mean_the_same_after_a_loop(self):
        self.assertEqual(text("{{ x }}{% for x in l %}{{ x }}{% endfor %}{{ x }}", x="o", l="ab"), "oabo")
        self.assertEqual(text("{% for x in l %}{% endfor %}[{{ x }}{{ loop }}]", l="ab"), "[]")
        self.assertEqual(text("{% for x in l %}{% else %}{{ x }}{{ loop }}{% endfor %}", x="o", loop="p"), "op")
        self.assertEqual(text("{% for x in l %}{{ loop.parent.x }}{% endfor %}{{ loop.x }}", l="a", loop={"x": 1}), "1")

    def test_other_names_stay(self):
        self.assertEqual(text("{% set n = 0 %}{% for x in l %}{% set n = n + x %}{% endfor %}{{ n }}", l=[1, 2, 3]), "6")

    def test_an_inner_loop_leaves_the_outer_one(self):
        self.assertEqual(text("{% for x in l %}{% for x in l %}{% endfor %}{{ x }}{{ loop.index }}{% endfor %}", l="ab"), "a1b2")


class TrimTests(unittest.TestCase):
    def test_sides(self):
        self.assertEqual(text("a \n {%- if 1 %} b {% endif -%} \n c"), "a b c")
        self.assertEqual(text("a {{- 1 }} b {{ 2 -}} c {{- 3 -}} d"), "a1 b 2c3d")
        self.assertEqual(text("a {#- no #} b {# no -#} c"), "a b c")

    def test_a_minus_of_the_expression_stays(self):
        self.assertEqual(text("a {{ -1 }} b"), "a -1 b")
        self.assertEqual(text("a {{- -1 -}} b"), "a-1b")

    def test_between_tags(self):
        self.assertEqual(text("{% for x in l -%}\n  {{ x }}\n{%- endfor %}", l="ab"), "ab")

    def test_at_the_ends(self):
        self.assertEqual(text(" {%- set a = 1 -%} \n"), "")

    def test_lines_of_errors(self):
        with self.assertRaises(TemplateError) as caught:
            Template("a\n\n{%- if 1 -%}\n\n{% endif %}\n{{ ! }}")
        self.assertEqual(caught.exception.line, 6)
