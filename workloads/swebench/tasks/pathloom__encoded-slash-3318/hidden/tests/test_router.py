import unittest

from pathloom import (BuildError, MethodNotAllowed, NotFound, Redirect, Router,
                      TemplateError)


def make():
    router = Router()
    router.add("/files/{name}", "file")
    router.add("/files/{name}/meta", "meta", methods=("GET", "PUT"))
    router.add("/files/latest", "latest")
    router.add("/raw/{where:path}", "raw")
    router.add("/users/{id:int}", "user")
    router.add("/users/{nick}", "nick")
    router.add("/men\u00fc/{dish}.{ext:any(txt, html)}", "dish")
    router.add("/log/{year:int(4)}-{month:int(2)}/", "log")
    return router


class MatchTests(unittest.TestCase):
    def setUp(self):
        self.router = make()

    def endpoint(self, target, method="GET"):
        found = self.router.match(method, target)
        return found.endpoint, found.params

    def test_static_wins(self):
        self.assertEqual(self.endpoint("/files/latest"), ("latest", {}))

    def test_typed_variable_wins(self):
        self.assertEqual(self.endpoint("/users/7"), ("user", {"id": 7}))
        self.assertEqual(self.endpoint("/users/ann"), ("nick", {"nick": "ann"}))

    def test_escaped_value(self):
        self.assertEqual(self.endpoint("/files/a%20b"), ("file", {"name": "a b"}))

    def test_path_spans_segments(self):
        self.assertEqual(self.endpoint("/raw/a/b%20c"),
                         ("raw", {"where": "a/b c"}))

    def test_literal_outside_ascii(self):
        self.assertEqual(self.endpoint("/men%c3%bc/soup.txt"),
                         ("dish", {"dish": "soup", "ext": "txt"}))
        with self.assertRaises(NotFound):
            self.endpoint("/men%c3%bc/soup.pdf")

    def test_method(self):
        with self.assertRaises(MethodNotAllowed) as caught:
            self.endpoint("/files/a/meta", "DELETE")
        self.assertEqual(caught.exception.allowed, ("GET", "HEAD", "PUT"))

    def test_redirect(self):
        with self.assertRaises(Redirect) as caught:
            self.endpoint("/log/2031-04?all=1")
        self.assertEqual(caught.exception.location, "/log/2031-04/?all=1")

    def test_unknown(self):
        with self.assertRaises(NotFound):
            self.endpoint("/nowhere")


class BuildTests(unittest.TestCase):
    def setUp(self):
        self.router = make()

    def test_round_trip(self):
        for value in ("a", "a b", "100%", "50%25", "x;y=z", "\u20ac", "?#"):
            url = self.router.build("file", name=value)
            self.assertEqual(self.router.match("GET", url).params, {"name": value})

    def test_padding(self):
        self.assertEqual(self.router.build("log", year=987, month=4),
                         "/log/0987-04/")

    def test_path_keeps_slashes(self):
        self.assertEqual(self.router.build("raw", where="a/b c"), "/raw/a/b%20c")

    def test_query(self):
        self.assertEqual(self.router.build("latest", query={"q": "a b"}),
                         "/files/latest?q=a+b")

    def test_bad_values(self):
        for bad in ("", ".", ".."):
            with self.assertRaises(BuildError):
                self.router.build("file", name=bad)
        with self.assertRaises(BuildError):
            self.router.build("user", id="seven")
        with self.assertRaises(BuildError):
            self.router.build("file", title="a")


class TemplateTests(unittest.TestCase):
    def test_rejected(self):
        for source in ("a", "/{a}/{a}", "/{a:no}", "/{a", "/{k:any()}"):
            with self.assertRaises(TemplateError):
                Router().add(source, "x")

    def test_mount(self):
        outer = Router()
        outer.mount("/v1/", make())
        self.assertEqual(outer.match("GET", "/v1/users/3").params, {"id": 3})
        self.assertEqual(outer.build("user", id=3), "/v1/users/3")
