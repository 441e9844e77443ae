"""What recipes do: from the texts of the inputs to the text of the target."""


def join(texts, arguments):
    """All inputs one after another, with the argument between them."""
    between = (arguments[0] if arguments else "").replace("\\n", "\n")
    return between.join(texts)


def sort(texts, arguments):
    """All lines sorted, each once."""
    lines = sorted({line for text in texts for line in text.splitlines()})
    return "".join(line + "\n" for line in lines)


def upper(texts, arguments):
    return "".join(texts).upper()


def head(texts, arguments):
    """The first lines of each input."""
    count = int(arguments[0])
    return "".join("".join(text.splitlines(True)[:count]) for text in texts)


def count(texts, arguments):
    """How many lines each input has."""
    return "".join("%d\n" % len(text.splitlines()) for text in texts)


def need(texts, arguments):
    """The inputs, if all of them have the word of the argument in them."""
    for text in texts:
        if arguments[0] not in text:
            raise ValueError("the word %s is missing" % arguments[0])
    return "".join(texts)


RECIPES = {"join": join, "sort": sort, "upper": upper, "head": head, "count": count, "need": need}
