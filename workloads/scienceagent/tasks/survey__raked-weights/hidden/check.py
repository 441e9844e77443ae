"""Rakes again, and checks the weights against the margins."""

import csv
import json
from collections import defaultdict
from math import sqrt

people = list(csv.DictReader(open("data/responses.csv")))
for person in people:
    person["region"] = {"N": "north", "S": "south", "I": "islands"}.get(person["region"], person["region"])
margins = defaultdict(dict)
for row in csv.DictReader(open("data/margins.csv")):
    margins[row["variable"]][row["category"]] = float(row["population"])


def rake(weights):
    for _ in range(500):
        for variable, margin in margins.items():
            sums = defaultdict(float)
            for person, weight in zip(people, weights, strict=True):
                sums[person[variable]] += weight
            weights = [w * margin[p[variable]] / sums[p[variable]] for p, w in zip(people, weights, strict=True)]
    return weights


def estimate(weights, pairs):
    used = [(w, y) for w, y in zip(weights, pairs, strict=True) if y is not None]
    total = sum(w for w, _ in used)
    mean = sum(w * y for w, y in used) / total
    return mean, sqrt(len(used) / (len(used) - 1) * sum((w * (y - mean)) ** 2 for w, y in used)) / total


weights = rake([1.0] * len(people))
most = 4 * sum(weights) / len(weights)
weights = rake([min(w, most) for w in weights])
share, share_se = estimate(weights, [float(p["transport"] == "bicycle") if p["transport"] else None for p in people])
minutes, minutes_se = estimate(weights, [float(p["minutes"]) if p["minutes"] else None for p in people])
effect = len(weights) * sum(w * w for w in weights) / sum(weights) ** 2

given = {row["person"]: float(row["weight"]) for row in csv.DictReader(open("results/weights.csv"))}
said = json.load(open("results/estimates.json"))
checks = {"people": set(given) == {p["person"] for p in people}}
if checks["people"]:
    for variable, margin in margins.items():
        sums = defaultdict(float)
        for person in people:
            sums[person[variable]] += given[person["person"]]
        checks[f"margin {variable}"] = all(abs(sums[c] / value - 1) < 0.002 for c, value in margin.items())
for key, value, within in (("bicycle_share", share, 0.003), ("bicycle_se", share_se, 0.001), ("minutes_mean", minutes, 0.15),
                           ("minutes_se", minutes_se, 0.05), ("design_effect", effect, 0.05)):
    checks[key] = abs(float(said[key]) - value) < within
print(json.dumps(checks))
