"""Install order: every package after the packages that it requires."""

import heapq


class CycleError(Exception):
    """Packages that require each other in a circle; ``path`` closes the circle."""

    def __init__(self, path):
        self.path = tuple(path)
        super().__init__("dependency cycle: " + " -> ".join(self.path))


def install_order(plan):
    """Releases of ``plan``, requirements first, ties in alphabetical order."""
    releases = plan.releases
    waiting = {name: len(release.requires) for name, release in releases.items()}
    needed_by = {name: [] for name in releases}
    for name, release in releases.items():
        for target in release.requires:
            needed_by[target].append(name)
    ready = [name for name, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    ordered = []
    while ready:
        name = heapq.heappop(ready)
        ordered.append(releases[name])
        for dependant in needed_by[name]:
            waiting[dependant] -= 1
            if waiting[dependant] == 0:
                heapq.heappush(ready, dependant)
    if len(ordered) < len(releases):
        raise CycleError(_find_cycle(releases, {release.name for release in ordered}))
    return ordered


def _find_cycle(releases, done):
    """Walk along unfinished requirements until a name comes up again."""
    name = min(set(releases) - done)
    path = []
    while name not in path:
        path.append(name)
        name = min(target for target in releases[name].requires if target not in done)
    return path[path.index(name):] + [name]
