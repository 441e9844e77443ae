import unittest

from stratum import load

TEXT = """
[db]
password = s3$$$$cret
url = db://app:${password}@box7
again = ${url}
[mail]
password = ${env:MAIL_PASSWORD}
login = bot:${password}
[shop]
amount = 12
label = $$${amount}
"""


class ConfiguredDollarsTests(unittest.TestCase):
    def setUp(self):
        self.config = load([("base", TEXT)], env={"MAIL_PASSWORD": "x$$$$y"})

    def test_own_value(self):
        self.assertEqual(self.config.get("db", "password"), "s3$$cret")

    def test_password_survives_references(self):
        self.assertEqual(self.config.get("db", "url"), "db://app:s3$$cret@box7")
        self.assertEqual(self.config.get("db", "again"), "db://app:s3$$cret@box7")

    def test_environment_is_literal(self):
        self.assertEqual(self.config.get("mail", "password"), "x$$$$y")
        self.assertEqual(self.config.get("mail", "login"), "bot:x$$$$y")

    def test_overrides_are_like_files(self):
        config = load([("base", TEXT)], ["db.password=a$$$$b"])
        self.assertEqual(config.get("db", "password"), "a$$b")
        self.assertEqual(config.get("db", "url"), "db://app:a$$b@box7")

    def test_set_is_literal_behind_a_reference(self):
        self.config.set("db", "password", "$${password}$$")
        self.assertEqual(self.config.get("db", "url"),
                         "db://app:$${password}$$@box7")

    def test_price_label(self):
        self.assertEqual(self.config.get("shop", "label"), "$12")

    def test_check_sees_references_after_dollars(self):
        config = load([("base", "[shop]\nlabel = $$${amuont}\n")])
        self.assertEqual(config.check(), ["shop.label: there is no 'amuont'"])

    def test_check_leaves_plain_braces_alone(self):
        config = load([("base", "[shop]\nlabel = $${amuont}\n")])
        self.assertEqual(config.check(), [])

    def test_rename_reaches_references_after_dollars(self):
        self.config.rename("shop", "amount", "price")
        self.assertEqual(self.config.get("shop", "label"), "$12")
        self.assertEqual(self.config.check(), [])

    def test_dump_reads_back(self):
        again = load([("dump", self.config.dump())])
        for section in self.config.sections():
            for key in self.config.keys(section):
                self.assertEqual(again.get(section, key),
                                 self.config.get(section, key))
