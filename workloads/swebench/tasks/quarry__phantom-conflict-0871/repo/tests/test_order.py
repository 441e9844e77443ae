import unittest

from quarry import Catalog, CycleError, install_order, resolve


def ordered(mapping, requirements):
    return [r.name for r in install_order(resolve(Catalog.from_mapping(mapping), requirements))]


class OrderTests(unittest.TestCase):
    def test_requirements_come_first_and_ties_are_alphabetical(self):
        names = ordered({
            "app": {"1.0.0": {"web": "*", "db": "*"}},
            "web": {"1.0.0": {"core": "*"}},
            "db": {"1.0.0": {"core": "*"}},
            "core": {"1.0.0": {}},
        }, {"app": "*"})
        self.assertEqual(names, ["core", "db", "web", "app"])

    def test_cycle_is_reported_with_its_path(self):
        with self.assertRaises(CycleError) as caught:
            ordered({
                "a": {"1.0.0": {"b": "*"}},
                "b": {"1.0.0": {"c": "*"}},
                "c": {"1.0.0": {"b": "*"}},
            }, {"a": "*"})
        self.assertEqual(caught.exception.path, ("b", "c", "b"))


if __name__ == "__main__":
    unittest.main()
