"""Builds a configuration from texts and overrides."""

from .config import Config
from .errors import ConfigError
from .parser import parse


def load(layers, overrides=(), env=None):
    """A Config from (name, text) pairs, the weakest first, and overrides.

    Overrides are strings such as 'db.host=box7'. They are written like the
    values of a file, and a later one beats an earlier one.
    """
    config = Config(env)
    for name, text in layers:
        config.add_layer(name, parse(text, name))
    for override in overrides:
        section, key, raw = split_override(override)
        config.add_layer("override", {section: {key: raw}})
    return config


def split_override(text):
    """'Section.key = value' as (section, key, value)."""
    path, equals, raw = text.partition("=")
    section, dot, key = path.strip().lower().partition(".")
    if not (equals and dot and section and key):
        raise ConfigError("expected 'section.key=value', not %r" % text)
    return section, key, raw.strip()
