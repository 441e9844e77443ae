"""Where in a text something was found."""

from .query import parse_query
from .tokens import spans, words


def snippet(text, query, around=3, stop_words=frozenset(), mark="*"):
    """The first place of ``text`` with a word of the query, ``around`` words to either side, its words marked.

    Without such a place the beginning of the text.
    """
    wanted = {word for group in parse_query(query, stop_words) if not group.excluded
              for term in group.terms for _position, word in term}
    found, places = words(text), spans(text)
    hits = [number for number, word in enumerate(found) if word in wanted]
    if not places:
        return ""
    centre = hits[0] if hits else around
    first, last = max(0, centre - around), min(len(places) - 1, centre + around)
    start, out = places[first][0], []
    for number in range(first, last + 1):
        begin, end = places[number]
        out.append(text[start:begin])
        out.append(mark + text[begin:end] + mark if found[number] in wanted else text[begin:end])
        start = end
    return ("… " if first else "") + "".join(out) + (" …" if last < len(places) - 1 else "")
