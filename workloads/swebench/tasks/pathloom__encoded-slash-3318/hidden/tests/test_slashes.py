import unittest

from pathloom import BuildError, NotFound, Redirect, Router


class SlashTests(unittest.TestCase):
    def setUp(self):
        self.router = Router()
        self.router.add("/files/{name}", "file")
        self.router.add("/files/{name}/meta", "meta")
        self.router.add("/files/{name}/parts/{part:int}", "part")
        self.router.add("/tags/{tag}/", "tag")
        self.router.add("/mode/{kind:any(r/w, ro)}", "mode")
        self.router.add("/raw/{where:path}", "raw")
        self.router.add("/a/b/{id:int}.{ext}", "leaf")

    def found(self, target):
        match = self.router.match("GET", target)
        return match.endpoint, match.params

    def test_match_escaped_slash(self):
        for target in ("/files/2024%2Freport", "/files/2024%2freport"):
            self.assertEqual(self.found(target),
                             ("file", {"name": "2024/report"}))

    def test_not_mistaken_for_another_route(self):
        self.assertEqual(self.found("/files/a%2Fmeta"),
                         ("file", {"name": "a/meta"}))

    def test_several_variables(self):
        self.assertEqual(self.found("/files/a%2Fb/parts/3"),
                         ("part", {"name": "a/b", "part": 3}))

    def test_build_escapes_slash(self):
        self.assertEqual(self.router.build("file", name="2024/report"),
                         "/files/2024%2Freport")

    def test_round_trip(self):
        for value in ("a/b", "/", "/a", "a/", "a//b", "../a", "%2F", "a%2Fb/c"):
            url = self.router.build("meta", name=value)
            self.assertEqual(self.found(url), ("meta", {"name": value}))

    def test_listed_word(self):
        url = self.router.build("mode", kind="r/w")
        self.assertEqual(self.found(url), ("mode", {"kind": "r/w"}))

    def test_redirect_keeps_escape(self):
        with self.assertRaises(Redirect) as caught:
            self.router.match("GET", "/tags/in%2Fout?p=2")
        self.assertEqual(caught.exception.location, "/tags/in%2Fout/?p=2")

    def test_path_variable_builds_plain_slashes(self):
        url = self.router.build("raw", where="a/b c/d")
        self.assertEqual(url, "/raw/a/b%20c/d")
        self.assertEqual(self.found(url), ("raw", {"where": "a/b c/d"}))

    def test_path_variable_decodes_escaped_slash(self):
        self.assertEqual(self.found("/raw/a%2Fb/c"), ("raw", {"where": "a/b/c"}))

    def test_slashes_of_a_template_separate(self):
        self.assertEqual(self.found("/a/b/7.txt"),
                         ("leaf", {"id": 7, "ext": "txt"}))
        self.assertEqual(self.router.build("leaf", id=7, ext="txt"), "/a/b/7.txt")

    def test_escaped_percent_sign(self):
        self.assertEqual(self.found("/files/a%252Fb"), ("file", {"name": "a%2Fb"}))

    def test_dots_are_still_refused(self):
        with self.assertRaises(BuildError):
            self.router.build("file", name="..")
        with self.assertRaises(BuildError):
            self.router.build("raw", where="a/../b")

    def test_real_slash_still_separates(self):
        with self.assertRaises(NotFound):
            self.router.match("GET", "/files/a/b")
