"""Computes the indices again, in plain Python, and compares."""

import csv
import json
from collections import defaultdict
from math import comb, log

counts = defaultdict(lambda: defaultdict(int))
for row in csv.DictReader(open("data/counts.csv"), delimiter=";"):
    name = row["species"].strip().lower()
    if name != "unidentified" and int(row["count"]):
        counts[row["site"]][name] += int(row["count"])
said = list(csv.DictReader(open("results/diversity.csv")))
checks = {"rows": [row["site"] for row in said] == sorted(counts)}
columns = ("individuals", "species", "shannon", "simpson", "evenness", "rarefied_150")
for column in columns:
    checks[column] = checks["rows"]
for row in said if checks["rows"] else []:
    there = list(counts[row["site"]].values())
    n = sum(there)
    h = -sum(c / n * log(c / n) for c in there)
    true = (n, len(there), h, 1 - sum((c / n) ** 2 for c in there), h / log(len(there)),
            sum(1 - comb(n - c, 150) / comb(n, 150) for c in there))
    for column, value in zip(columns, true, strict=True):
        checks[column] &= abs(float(row[column]) - value) < 0.002 * max(1, abs(value))
print(json.dumps(checks))
