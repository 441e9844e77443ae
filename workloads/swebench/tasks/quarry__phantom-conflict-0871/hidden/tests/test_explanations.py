import unittest

from quarry import Catalog, render_plan, resolve


def example():
    catalog = Catalog.from_mapping({
        "atlas": {
            "3.0.0": {"glyph": ">=2.1", "tiles": "^5"},
            "2.0.0": {"glyph": "<4", "tiles": "^5"},
            "1.4.0": {"glyph": "^3"},
        },
        "glyph": {"2.6.0": {}, "3.1.0": {}},
    })
    return resolve(catalog, {"atlas": "*", "glyph": ">=2"})


class ExplanationTests(unittest.TestCase):
    def test_why_names_only_the_root_and_installed_releases(self):
        self.assertEqual(example().why("glyph"), [("the root", ">=2"), ("atlas 1.4.0", "^3")])

    def test_rendered_plan_has_no_abandoned_release(self):
        self.assertEqual(render_plan(example()),
                         "1. glyph 3.1.0 (the root >=2, atlas 1.4.0 ^3)\n"
                         "2. atlas 1.4.0 (the root *)")

    def test_why_is_empty_for_unknown_names(self):
        self.assertEqual(example().why("tiles"), [])


if __name__ == "__main__":
    unittest.main()
