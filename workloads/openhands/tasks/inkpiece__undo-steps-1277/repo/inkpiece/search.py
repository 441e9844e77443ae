"""Finding and replacing in documents."""


def find_all(document, wanted, ignore_case=False):
    """Positions of ``wanted`` that do not overlap, from the beginning."""
    if not wanted:
        raise ValueError("there is nothing to look for")
    text = document.text
    if ignore_case:
        text, wanted = text.lower(), wanted.lower()
    found, at = [], text.find(wanted)
    while at >= 0:
        found.append(at)
        at = text.find(wanted, at + len(wanted))
    return found


def replace_all(document, wanted, text, ignore_case=False):
    """Replace every occurrence, last one first so that positions stay; how many there were."""
    found = find_all(document, wanted, ignore_case)
    for at in reversed(found):
        document.replace(at, at + len(wanted), text)
    return len(found)
