"""Percent-encoding, and the canonical form of a request path.

Two spellings of one path (``/~ann`` and ``/%7Eann``, ``/%e2%82%ac`` and
``/%E2%82%AC``) have to reach the same route.  Request paths and template
literals are therefore both brought into one canonical form before they are
compared: what needs no escape is written literally, everything else as
``%XX`` with upper-case digits.
"""

from urllib.parse import quote, unquote_to_bytes

from .errors import BadPath

# Characters that may stand unescaped in a path, besides letters, digits
# and "-._~", which quote() never escapes.
PATH_SAFE = "/!$&'()*+,;=:@"


def encode(text):
    """Percent-encode *text* for use in a path."""
    return quote(text, safe=PATH_SAFE)


def decode(text):
    """Undo percent-encoding; a stray ``%`` stands for itself."""
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise BadPath("path is not UTF-8: %r" % text) from None


def canonical(path):
    """Return *path* with every character in its one preferred spelling."""
    return encode(decode(path))


def clean(path):
    """Return the canonical form of *path* without dot or empty segments.

    A trailing slash is kept, for it tells a directory from a leaf:

    >>> clean("/a/./b//../c/")
    '/a/c/'
    """
    if not path.startswith("/"):
        raise BadPath("path must start with '/': %r" % path)
    kept = []
    segments = canonical(path).split("/")
    for segment in segments:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    if kept and segments[-1] in ("", ".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def split_target(target):
    """Split a request target into path and query; a fragment is dropped."""
    target = target.partition("#")[0]
    path, mark, query = target.partition("?")
    return path, (query if mark else None)
