"""Pairs the spikes with those that were put in, and compares the groups."""

import csv
import json
from collections import Counter
from pathlib import Path


def read(path):
    return [(float(row["time_s"]), int(float(row["unit"]))) for row in csv.DictReader(open(path))]


said, truth = read("results/spikes.csv"), read(Path(__file__).parent / "truth.csv")
pairs, at = [], 0
for time, unit in truth:
    while at < len(said) and said[at][0] < time - 0.0005:
        at += 1
    if at < len(said) and abs(said[at][0] - time) <= 0.0005:
        pairs.append((said[at][1], unit))
        at += 1
groups = {found: Counter(unit for other, unit in pairs if other == found) for found, _ in pairs}
right = sum(group.most_common(1)[0][1] for group in groups.values())
png = Path("results/waveforms.png").read_bytes()
print(json.dumps({
    "in order": said == sorted(said, key=lambda spike: spike[0]),
    "spikes found": len(pairs) > 0.96 * len(truth),
    "few that are none": len(said) < 1.03 * len(pairs),
    "three units": len({unit for _, unit in said}) == 3 and len({g.most_common(1)[0][0] for g in groups.values()}) == 3,
    "sorted rightly": right > 0.96 * len(truth),
    "figure": png.startswith(b"\x89PNG") and len(png) > 4000,
}))
