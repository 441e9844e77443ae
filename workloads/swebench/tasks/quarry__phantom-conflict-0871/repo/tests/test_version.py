import unittest

from quarry import Version, VersionError


class VersionTests(unittest.TestCase):
    def test_precedence_of_a_typical_series(self):
        series = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11",
                  "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"]
        parsed = [Version.parse(text) for text in series]
        self.assertEqual([str(v) for v in sorted(reversed(parsed))], series)

    def test_build_metadata_has_no_precedence(self):
        left, right = Version.parse("1.0.0+a"), Version.parse("1.0.0+b")
        self.assertEqual(left, right)
        self.assertEqual(hash(left), hash(right))
        self.assertEqual(str(left), "1.0.0+a")

    def test_malformed_text_is_refused(self):
        for text in ("1.2", "01.2.3", "v1.2.3", "1.2.3-", ""):
            with self.assertRaises(VersionError):
                Version.parse(text)


if __name__ == "__main__":
    unittest.main()
