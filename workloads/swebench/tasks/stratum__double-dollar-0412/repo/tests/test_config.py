import unittest

from stratum import ConfigError, MissingError, load

BASE = """
user = app
[db]
host = localhost
port = 5432
url = db://${user}@${host}:${port}/main
[web]
hosts = a, b,
  ${db.host}
debug = off
home = ${env:HOME}/web
"""


class ConfigTests(unittest.TestCase):
    def setUp(self):
        self.config = load([("base", BASE), ("site", "[db]\nhost = box7\n")],
                           ["web.debug=on"], {"HOME": "/srv"})

    def test_references_see_the_upper_layers(self):
        self.assertEqual(self.config.get("db", "url"), "db://app@box7:5432/main")
        self.assertEqual(self.config.get_list("web", "hosts"), ["a", "b", "box7"])
        self.assertEqual(self.config.get("web", "home"), "/srv/web")

    def test_types_and_origin(self):
        self.assertEqual(self.config.get_int("db", "port"), 5432)
        self.assertIs(self.config.get_bool("web", "debug"), True)
        self.assertEqual(self.config.origin("web", "debug"), "override")
        with self.assertRaises(ConfigError):
            self.config.get_int("db", "host")

    def test_set_is_literal(self):
        self.config.set("db", "host", "${user}$$")
        self.assertEqual(self.config.get("db", "host"), "${user}$$")

    def test_missing_and_fallback(self):
        self.assertEqual(self.config.get("db", "pool", "4"), "4")
        with self.assertRaises(MissingError):
            self.config.get("db", "pool")

    def test_circles_are_named(self):
        self.config.add_layer("bad", {"db": {"host": "${web.hosts}"}})
        with self.assertRaisesRegex(ConfigError, "db.url -> db.host -> web.hosts -> db"):
            self.config.get("db", "url")

    def test_check_lists_dead_references(self):
        self.assertEqual(self.config.check(), [])
        self.config.add_layer("bad", {"db": {"host": "${hots}${env:X}"}})
        self.assertEqual(self.config.check(), ["db.host: there is no 'hots'",
                                               "db.host: there is no 'env:X'"])

    def test_rename_takes_references_along(self):
        self.config.rename("db", "host", "server")
        self.assertEqual(self.config.keys("db"), ["port", "server", "url"])
        self.assertEqual(self.config.get("db", "url"), "db://app@box7:5432/main")
        self.assertEqual(self.config.get_list("web", "hosts"), ["a", "b", "box7"])

    def test_dump_reads_back(self):
        self.config.set("web", "motto", " 5$ ")
        again = load([("dump", self.config.dump())])
        for section in self.config.sections():
            for key in self.config.keys(section):
                self.assertEqual(again.get(section, key),
                                 self.config.get(section, key))
