"""Runs recorded calls against a cache and against a plain model: ``python3 -m tests.replay`` tells where they part.

Lines of a trace: ``wait SECONDS``, ``put KEY SIZE [ttl SECONDS] [tag TAG …]``, ``get KEY``, ``drop KEY``, ``untag TAG``.
"""

from pathlib import Path

from tidecache import Cache, TooLarge

TRACE = Path(__file__).parent / "trace.txt"
BUDGET = 1000


class Model:
    """What the README says, written down without any thought of speed."""

    def __init__(self, budget):
        self.budget = budget
        self.now = 0.0
        self.entries = []

    def alive(self):
        return [e for e in self.entries if e["expires"] is None or self.now < e["expires"]]

    def put(self, key, size, ttl, tags):
        self.entries = [e for e in self.alive() if e["key"] != key]
        if size > self.budget:
            return
        while sum(e["size"] for e in self.entries) + size > self.budget:
            del self.entries[0]
        self.entries.append({"key": key, "size": size, "expires": None if ttl is None else self.now + ttl, "tags": tags})

    def get(self, key):
        for entry in self.alive():
            if entry["key"] == key:
                self.entries.remove(entry)
                self.entries.append(entry)

    def drop(self, key):
        self.entries = [e for e in self.alive() if e["key"] != key]

    def untag(self, tag):
        self.entries = [e for e in self.alive() if tag not in e["tags"]]

    def keys(self):
        return [e["key"] for e in self.alive()]


def parts(lines, budget=BUDGET):
    """``(line number, line, keys of the cache, keys of the model)`` of the first call after which they differ."""
    model = Model(budget)
    cache = Cache(budget, clock=lambda: model.now)
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        call, name, *rest = words
        if call == "wait":
            model.now += float(name)
        elif call == "put":
            size, ttl = int(rest[0]), float(rest[rest.index("ttl") + 1]) if "ttl" in rest else None
            tags = rest[rest.index("tag") + 1:] if "tag" in rest else []
            model.put(name, size, ttl, tags)
            try:
                cache.put(name, b"x" * size, ttl, tags)
            except TooLarge:
                pass
        elif call == "get":
            model.get(name)
            cache.get(name)
        elif call == "drop":
            model.drop(name)
            cache.drop(name)
        else:
            model.untag(name)
            cache.drop_tag(name)
        if cache.keys() != model.keys() or cache.used > budget:
            return number, line, cache.keys(), model.keys()
    return None


if __name__ == "__main__":
    found = parts(TRACE.read_text().splitlines())
    print("they agree" if found is None else "line %d, %s:\n  cache %s\n  model %s" % found)
