"""The layered configuration and the typed access to its values."""

from .errors import ConfigError, MissingError
from .interpolate import escape, expand, references, rewrite
from .parser import DEFAULT, quote

_TRUTH = {"yes": True, "true": True, "on": True, "1": True,
          "no": False, "false": False, "off": False, "0": False}
ENV = "env:"


class Config:
    """Raw values by layer; the last layer that has a key decides."""

    def __init__(self, env=None):
        self._layers = []
        self._env = dict(env or {})

    def add_layer(self, name, sections):
        """Put {section: {key: raw value}} on top of the layers so far."""
        self._layers.append((name, {section: dict(values) for section, values
                                    in sections.items()}))

    def set(self, section, key, value):
        """Give a key a literal value, on top of everything else."""
        self.add_layer("set", {section.lower(): {key.lower(): escape(value)}})

    def rename(self, section, old, new):
        """Give a key another name, in all layers.

        References follow: '${old}' inside the section and '${section.old}'
        anywhere.
        """
        section, old, new = section.lower(), old.lower(), new.lower()
        for _, sections in self._layers:
            for here, values in sections.items():
                def change(name, here=here):
                    if _target(here, name) != (section, old):
                        return name
                    return "%s.%s" % (section, new) if "." in name else new

                for key in values:
                    values[key] = rewrite(values[key], change)
            if old in sections.get(section, ()):
                sections[section][new] = sections[section].pop(old)

    # -- looking things up ------------------------------------------------

    def sections(self):
        """All sections that have keys, in alphabetical order."""
        return sorted({section for _, sections in self._layers
                       for section, values in sections.items() if values})

    def keys(self, section):
        """The keys of a section itself, in alphabetical order."""
        return sorted({key for _, sections in self._layers
                       for key in sections.get(section, ())})

    def origin(self, section, key):
        """The name of the layer that decides about a key."""
        return self._find(section.lower(), key.lower())[0]

    def get(self, section, key, fallback=None):
        """The resolved value, or `fallback` if there is one and no value."""
        try:
            self._find(section.lower(), key.lower())
        except MissingError:
            if fallback is None:
                raise
            return fallback
        return self._resolve(section.lower(), key.lower(), ())

    def get_int(self, section, key):
        """The value as a whole number."""
        value = self.get(section, key)
        try:
            return int(value)
        except ValueError:
            raise ConfigError("%s.%s: %r is not a whole number"
                              % (section, key, value)) from None

    def get_bool(self, section, key):
        """The value as a truth value: yes/no, true/false, on/off or 1/0."""
        value = self.get(section, key)
        if value.lower() not in _TRUTH:
            raise ConfigError("%s.%s: %r is neither yes nor no"
                              % (section, key, value))
        return _TRUTH[value.lower()]

    def get_list(self, section, key):
        """The value split at commas, without blanks and empty parts."""
        parts = (part.strip() for part in self.get(section, key).split(","))
        return [part for part in parts if part]

    def check(self):
        """Complaints about references that lead nowhere."""
        complaints = []
        for section in self.sections():
            for key in self.keys(section):
                for name in references(self._find(section, key)[1]):
                    if not self._leads_somewhere(section, name):
                        complaints.append("%s.%s: there is no %r"
                                          % (section, key, name))
        return complaints

    def dump(self):
        """One text with all resolved values, readable by `load`."""
        lines = []
        for section in self.sections():
            lines.append("[%s]" % section)
            lines += ["%s = %s" % (key, quote(escape(self.get(section, key))))
                      for key in self.keys(section)]
        return "\n".join(lines) + "\n"

    # -- helpers ----------------------------------------------------------

    def _find(self, section, key):
        """(layer name, raw value) of a key; [default] is the last resort."""
        for place in (section, DEFAULT):
            for layer, sections in reversed(self._layers):
                if key in sections.get(place, ()):
                    return layer, sections[place][key]
        raise MissingError("there is no %s.%s" % (section, key))

    def _resolve(self, section, key, trail):
        if (section, key) in trail:
            names = [".".join(step) for step in trail + ((section, key),)]
            raise ConfigError("circular: " + " -> ".join(names))
        trail += ((section, key),)

        def lookup(name):
            if name.startswith(ENV):
                return self._environment(name[len(ENV):])
            return self._resolve(*_target(section, name), trail)

        return expand(self._find(section, key)[1], lookup)

    def _environment(self, name):
        if name not in self._env:
            raise MissingError("the environment has no %s" % name)
        return self._env[name]

    def _leads_somewhere(self, section, name):
        if name.startswith(ENV):
            return name[len(ENV):] in self._env
        try:
            self._find(*_target(section, name))
        except MissingError:
            return False
        return True


def _target(section, name):
    """The (section, key) that a reference inside `section` means."""
    place, dot, key = name.lower().rpartition(".")
    return (place if dot else section), key
