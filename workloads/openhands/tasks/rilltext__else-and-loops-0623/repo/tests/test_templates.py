import unittest

from rilltext import Template, TemplateError


def text(source, **values):
    return Template(source).render(**values)


class ShowTests(unittest.TestCase):
    def test_values(self):
        self.assertEqual(text("{{ a }}-{{ b.c }}-{{ b.d.e }}-{{ l.1 }}-{{ l.9 }}", a=2.0, b={"c": "x"}, l=[1, 2]), "2-x--2-")

    def test_expressions(self):
        self.assertEqual(text("{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ -a }}", a=4), "7 9 -4")
        self.assertEqual(text("{{ a > 1 and not b }} {{ 'x' in 'xyz' }} {{ none or 'y' }}", a=2, b=False), "True True y")

    def test_filters(self):
        self.assertEqual(text("{{ n|title }}, {{ l|sorted|join:', ' }}, {{ p|money }}", n="ada", l=[2, 1], p=1234.5),
                         "Ada, 1, 2, 1,234.50")
        self.assertEqual(text("{{ x|default:'none' }} {{ 'a b c'|wrap:3 }}"), "none a b\nc")

    def test_private_attributes_are_not_there(self):
        self.assertEqual(text("{{ a.__class__ }}{{ a._x }}", a=object()), "")


class BlockTests(unittest.TestCase):
    def test_if(self):
        self.assertEqual(text("{% if a %}yes{% endif %}.", a=1) + text("{% if a %}yes{% endif %}."), "yes..")

    def test_for(self):
        self.assertEqual(text("{% for x in l %}{{ x }},{% endfor %}", l=(i for i in range(3))), "0,1,2,")
        self.assertEqual(text("{% for x in d %}{{ x }}{% endfor %}{% for x in n %}x{% endfor %}", d={"a": 1}), "a")

    def test_set(self):
        self.assertEqual(text("{% set a = b + 1 %}{{ a }}", b=1), "2")

    def test_comments(self):
        self.assertEqual(text("a{# no #}b"), "ab")

    def test_values_given_are_not_changed(self):
        values = {"a": 1}
        Template("{% set a = 2 %}").render(**values)
        self.assertEqual(values, {"a": 1})


class ErrorTests(unittest.TestCase):
    def check(self, source, told, **values):
        with self.assertRaises(TemplateError) as caught:
            text(source, **values)
        self.assertEqual(str(caught.exception), told)

    def test_lines(self):
        self.check("a\n{% if x %}\nb", "line 2: if without its end")
        self.check("a\n\n{% endfor %}", "line 3: unexpected endfor")
        self.check("{{ a\n}}\n{{ b ! }}", "line 3: cannot read '!'")
        self.check("\n{{ 1 + 'x' }}", "line 2: +: unsupported operand type(s) for +: 'int' and 'str'")
        self.check("{% for x in 1 %}{% endfor %}", "line 1: 1 cannot be looped over")
        self.check("{% for x %}", "line 1: for wants: for NAME in EXPRESSION")
        self.check("{{ a|shout }}", "line 1: there is no filter shout")
        self.check("{{ a %}", "line 1: a tag that begins with {{ ends with %}")


if __name__ == "__main__":
    unittest.main()
