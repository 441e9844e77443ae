import unittest

from quarry import Catalog, Unresolvable, render_plan, resolve


class ResolverTests(unittest.TestCase):
    def test_newest_fitting_release_wins(self):
        catalog = Catalog.from_mapping({
            "site": {"1.0.0": {"paint": "^2.1"}},
            "paint": {"2.0.0": {}, "2.1.0": {}, "2.3.0": {}, "3.0.0": {}},
        })
        self.assertEqual(resolve(catalog, {"site": "*"}).versions(),
                         {"paint": "2.3.0", "site": "1.0.0"})

    def test_steps_back_when_a_release_needs_something_missing(self):
        catalog = Catalog.from_mapping({
            "site": {"1.0.0": {"paint": "^1"}, "2.0.0": {"glass": "^7"}},
            "paint": {"1.0.0": {}},
        })
        self.assertEqual(resolve(catalog, {"site": "*"}).versions(),
                         {"paint": "1.0.0", "site": "1.0.0"})

    def test_steps_back_when_a_release_contradicts_the_root(self):
        catalog = Catalog.from_mapping({
            "site": {"1.0.0": {}, "2.0.0": {"paint": "^2"}},
            "paint": {"1.0.0": {}, "2.0.0": {}},
        })
        plan = resolve(catalog, {"paint": "^1", "site": "*"})
        self.assertEqual(plan.versions(), {"paint": "1.0.0", "site": "1.0.0"})

    def test_unresolvable_names_the_demands(self):
        catalog = Catalog.from_mapping({
            "site": {"1.0.0": {"paint": "^2"}},
            "paint": {"1.0.0": {}, "2.0.0": {}},
        })
        with self.assertRaises(Unresolvable) as caught:
            resolve(catalog, {"paint": "^1", "site": "*"})
        self.assertEqual(str(caught.exception),
                         "no release of paint fits:\n"
                         "  the root wants paint ^1\n"
                         "  site 1.0.0 wants paint ^2")

    def test_unknown_root_package(self):
        with self.assertRaises(Unresolvable) as caught:
            resolve(Catalog(), {"ghost": "*"})
        self.assertEqual(caught.exception.name, "ghost")

    def test_why_lists_all_who_asked(self):
        catalog = Catalog.from_mapping({
            "ink": {"1.0.0": {"paint": ">=1"}},
            "site": {"1.0.0": {"paint": "^1.2"}},
            "paint": {"1.2.0": {}},
        })
        plan = resolve(catalog, {"ink": "*", "site": "1.x"})
        self.assertEqual(plan.why("paint"), [("ink 1.0.0", ">=1"), ("site 1.0.0", "^1.2")])
        self.assertEqual(render_plan(plan).splitlines()[0],
                         "1. paint 1.2.0 (ink 1.0.0 >=1, site 1.0.0 ^1.2)")


class SteppingBackTests(unittest.TestCase):
    def test_demand_on_a_known_target_is_undone(self):
        catalog = Catalog.from_mapping({
            "atlas": {"2.0.0": {"glyph": "^3", "tiles": "^5"}, "1.4.0": {"glyph": "^2"}},
            "glyph": {"2.6.0": {}, "3.1.0": {}},
            "tiles": {"4.0.0": {}},
        })
        plan = resolve(catalog, {"atlas": "*", "glyph": ">=2"})
        self.assertEqual(plan.versions(), {"atlas": "1.4.0", "glyph": "2.6.0"})

    def test_several_releases_in_a_row_are_undone(self):
        catalog = Catalog.from_mapping({
            "atlas": {
                "4.0.0": {"glyph": "^3", "tiles": "^5"},
                "3.0.0": {"glyph": "^1", "tiles": "^5"},
                "2.0.0": {"glyph": "^3.1", "tiles": "^6"},
                "1.4.0": {"glyph": "^2"},
            },
            "glyph": {"1.0.0": {}, "2.6.0": {}, "3.1.0": {}},
            "tiles": {"4.0.0": {}},
        })
        plan = resolve(catalog, {"atlas": "*", "glyph": ">=1"})
        self.assertEqual(plan.versions(), {"atlas": "1.4.0", "glyph": "2.6.0"})

    def test_newest_release_is_not_held_back(self):
        catalog = Catalog.from_mapping({
            "atlas": {"2.0.0": {"glyph": "<3", "tiles": "^5"}, "1.4.0": {}},
            "glyph": {"2.6.0": {}, "3.1.0": {}},
        })
        plan = resolve(catalog, {"atlas": "*", "glyph": ">=2"})
        self.assertEqual(plan.versions(), {"atlas": "1.4.0", "glyph": "3.1.0"})

    def test_steps_back_through_two_packages(self):
        # Both releases of "berth" fail under atlas 2; that undoes atlas as well.
        catalog = Catalog.from_mapping({
            "atlas": {"2.0.0": {"glyph": "^3"}, "1.0.0": {"glyph": "^2"}},
            "berth": {"2.0.0": {"glyph": ">=3", "tiles": "^9"}, "1.0.0": {"crane": "^1"}},
            "crane": {"1.1.0": {"glyph": ">3.1"}, "1.0.0": {"glyph": "<3"}},
            "glyph": {"2.6.0": {}, "3.1.0": {}},
        })
        plan = resolve(catalog, {"atlas": "*", "berth": "*", "glyph": ">=2"})
        self.assertEqual(plan.versions(), {"atlas": "1.0.0", "berth": "1.0.0",
                                           "crane": "1.0.0", "glyph": "2.6.0"})

    def test_truly_unsolvable_is_still_refused(self):
        catalog = Catalog.from_mapping({
            "atlas": {"2.0.0": {"glyph": "^3", "tiles": "^5"}, "1.4.0": {"glyph": "^1"}},
            "glyph": {"2.6.0": {}, "3.1.0": {}},
        })
        with self.assertRaises(Unresolvable):
            resolve(catalog, {"atlas": "*", "glyph": ">=2"})


if __name__ == "__main__":
    unittest.main()
