"""Judges the probabilities by the true diagnoses."""

import csv
import json

from sklearn.datasets import load_breast_cancer
from sklearn.metrics import brier_score_loss, roc_auc_score

malignant = load_breast_cancer().target == 0
rows = [int(row["row"]) for row in csv.DictReader(open("data/split.csv")) if row["part"] == "test"]
said = list(csv.DictReader(open("results/predictions.csv")))
p = [float(row["p_malignant"]) for row in said]
checks = {"rows": [int(float(row["row"])) for row in said] == rows, "probabilities": all(0 <= value <= 1 for value in p)}
good = all(checks.values())
checks["area under the curve"] = good and bool(roc_auc_score(malignant[rows], p) > 0.985)
checks["accuracy"] = good and bool(((malignant[rows] == ([value > 0.5 for value in p])).mean()) > 0.94)
checks["calibration"] = good and bool(brier_score_loss(malignant[rows], p) < 0.035)
cv = json.load(open("results/cv.json"))
checks["cross-validation"] = 0.97 < float(cv["auc_mean"]) < 1 and 0 <= float(cv["auc_std"]) < 0.03
print(json.dumps(checks))
