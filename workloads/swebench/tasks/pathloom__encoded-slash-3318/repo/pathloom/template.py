"""Parse ``/a/{b:int}.{c}`` into a matcher and a builder."""

import re

from .encoding import clean, decode, encode
from .errors import BuildError, TemplateError

_VARIABLE = re.compile(
    r"\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"(?::(?P<kind>[a-z]+)(?:\((?P<args>[^()]*)\))?)?\}")


class Variable:
    """A named hole in a template, with the converter that fills it."""

    def __init__(self, name, converter):
        self.name = name
        self.converter = converter
        self.regex = re.compile(converter.pattern)

    def build(self, values):
        """Return the encoded text for this variable's entry in *values*."""
        try:
            value = values[self.name]
        except KeyError:
            raise BuildError("missing value for %r" % self.name) from None
        try:
            text = self.converter.to_url(value)
            if self.regex.fullmatch(text):
                self.converter.to_python(decode(text))
                return text
        except (TypeError, ValueError):
            pass
        raise BuildError("value %r of %r does not fit converter %r"
                         % (value, self.name, self.converter.name))


class Template:
    """A parsed template; its parts are encoded literals and Variables."""

    def __init__(self, source, converters):
        if not source.startswith("/"):
            raise TemplateError("template must start with '/': %r" % source)
        self.source = source
        self.parts = list(self._parse(source, converters))
        self.variables = [p for p in self.parts if isinstance(p, Variable)]
        names = [v.name for v in self.variables]
        if len(set(names)) != len(names):
            raise TemplateError("a variable occurs twice in %r" % source)
        self.regex = re.compile("".join(
            "(?P<%s>%s)" % (p.name, p.converter.pattern)
            if isinstance(p, Variable) else re.escape(p) for p in self.parts))

    @staticmethod
    def _parse(source, converters):
        position = 0
        for found in _VARIABLE.finditer(source):
            if found.start() > position:
                yield Template._literal(source[position:found.start()])
            kind = found["kind"] or "str"
            if kind not in converters:
                raise TemplateError("unknown converter %r" % kind)
            args = [a.strip() for a in (found["args"] or "").split(",")]
            yield Variable(found["name"],
                           converters[kind](*[a for a in args if a]))
            position = found.end()
        if position < len(source):
            yield Template._literal(source[position:])

    @staticmethod
    def _literal(text):
        if "{" in text or "}" in text:
            raise TemplateError("unbalanced brace near %r" % text)
        return encode(text)

    def rank(self):
        """Sort key: static text before typed variables before free ones."""
        key = []
        weight = 0
        for part in self.parts:
            if isinstance(part, Variable):
                weight = max(weight, part.converter.weight)
                continue
            for _ in range(part.count("/")):
                key.append(weight)
                weight = 0
        key.append(weight)
        return key[1:]

    def match(self, path):
        """Return the values found in canonical *path*, or None."""
        found = self.regex.fullmatch(path)
        if found is None:
            return None
        values = {}
        for variable in self.variables:
            text = decode(found[variable.name])
            try:
                values[variable.name] = variable.converter.to_python(text)
            except ValueError:
                return None
        return values

    def build(self, values):
        """Return the path for *values*; the inverse of :meth:`match`."""
        path = "".join(p.build(values) if isinstance(p, Variable) else p
                       for p in self.parts)
        if clean(path) != path:
            raise BuildError("%r would be read as %r" % (path, clean(path)))
        return path
