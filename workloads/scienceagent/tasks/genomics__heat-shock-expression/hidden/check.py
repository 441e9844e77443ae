"""Compares with the changes that were put in, and the adjusted p-values with the p-values."""

import csv
import json
from pathlib import Path

truth = json.loads((Path(__file__).parent / "truth.json").read_text())["changed"]
counts = {row["gene"]: sum(int(row[k]) for k in row if k != "gene" and k != "s07")
          for row in csv.DictReader(open("data/counts.tsv"), delimiter="\t")}
wanted = {gene for gene, total in counts.items() if total >= 10}
rows = list(csv.DictReader(open("results/genes.csv")))
fold = {row["gene"]: float(row["log2_fold_change"]) for row in rows}
p = sorted(float(row["p_value"]) for row in rows)
adjusted, least = [], 1.0
for rank in range(len(p), 0, -1):
    least = min(least, p[rank - 1] * len(p) / rank)
    adjusted.append(least)
found = {row["gene"] for row in rows if float(row["p_adjusted"]) < 0.05 and abs(float(row["log2_fold_change"])) > 1}
unchanged = sorted(abs(fold[gene]) for gene in fold if gene not in truth)
png = open("results/volcano.png", "rb").read()
print(json.dumps({
    "genes": len(set(fold) ^ wanted) <= 3 and len(fold) == len(rows),
    "changed genes found": len(found & set(truth)) >= 0.9 * len(truth),
    "few others": len(found - set(truth)) <= 4,
    "fold changes": sum(abs(fold.get(gene, 99) - value) < 0.6 for gene, value in truth.items()) >= 0.9 * len(truth),
    "unchanged genes near 0": unchanged[len(unchanged) // 2] < 0.25,
    "adjusted": max(abs(a - float(row["p_adjusted"])) for a, row in zip(adjusted[::-1], rows, strict=True)) < 1e-3,
    "figure": png.startswith(b"\x89PNG") and len(png) > 4000,
}))
