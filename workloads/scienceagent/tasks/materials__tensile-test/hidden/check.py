"""Compares with the properties that the curves were made with."""

import csv
import json
from pathlib import Path

truth = json.loads((Path(__file__).parent / "truth.json").read_text())
said = {str(int(float(row["specimen"]))): row for row in csv.DictReader(open("results/tensile.csv"))}
share = {"modulus_GPa": 0.03, "yield_MPa": 0.02, "uts_MPa": 0.01, "uniform_elongation_pct": 0.06}
checks = {"rows": set(said) == set(truth)}
for key, within in share.items():
    checks[key] = all(abs(float(said[n][key]) / truth[n][key] - 1) < within for n in truth) if checks["rows"] else False
png = Path("results/curves.png").read_bytes()
checks["figure"] = png.startswith(b"\x89PNG") and len(png) > 4000
print(json.dumps(checks))
