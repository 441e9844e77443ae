"""Computes everything again in integers and compares."""

import csv
import json
from collections import Counter
from math import e, log10, sqrt

tenths = [
    round(float(row["mag"]) * 10)
    for row in csv.DictReader(open("data/catalogue.csv"))
    if row["type"] == "earthquake" and row["mag"] and float(row["depth_km"]) < 30
]
mc = Counter(tenths).most_common(1)[0][0] + 2
used = [m / 10 for m in tenths if m >= mc]
n, mean = len(used), sum(used) / len(used)
b = log10(e) / (mean - (mc / 10 - 0.05))
error = 2.30 * b**2 * sqrt(sum((m - mean) ** 2 for m in used) / (n * (n - 1)))
said = json.load(open("results/gr.json"))
print(json.dumps({
    "mc": abs(float(said["mc"]) - mc / 10) < 0.01,
    "b": abs(float(said["b"]) - b) < 0.004,
    "b near the truth": abs(float(said["b"]) - 0.92) < 0.08,
    "b_error": abs(float(said["b_error"]) - error) < 0.002,
    "a": abs(float(said["a"]) - (log10(n) + b * mc / 10)) < 0.02,
    "events_used": int(said["events_used"]) == n,
}))
