import pandas as pd

VARIABLES = ("age", "education", "region")
people = pd.read_csv("data/responses.csv", index_col="person")
people["region"] = people["region"].replace({"N": "north", "S": "south", "I": "islands"})
margins = pd.read_csv("data/margins.csv").set_index(["variable", "category"])["population"]


def rake(weights):
    for turn in range(1, 500):
        before = weights
        for variable in VARIABLES:
            sums = weights.groupby(people[variable]).sum()
            weights = weights * people[variable].map(margins[variable] / sums)
        if (weights / before - 1).abs().max() < 1e-10:
            return weights, turn
    raise RuntimeError("raking does not converge")


def effect(weights):
    return len(weights) * (weights**2).sum() / weights.sum() ** 2


weights, turns = rake(pd.Series(1.0, people.index))
print("turns", turns, "sum", round(weights.sum()), "design effect", round(effect(weights), 3))
print("largest over mean:", round(weights.max() / weights.mean(), 2), "above 4:", int((weights > 4 * weights.mean()).sum()))
trimmed, turns = rake(weights.clip(upper=4 * weights.mean()))
print("trimmed: turns", turns, "sum", round(trimmed.sum()), "design effect", round(effect(trimmed), 3))
print("largest over mean:", round(trimmed.max() / trimmed.mean(), 2))
for variable in VARIABLES:
    print(variable, (trimmed.groupby(people[variable]).sum() - margins[variable]).abs().max())

import json
from pathlib import Path

import numpy as np


def estimate(answers, weights):
    known = answers.notna()
    y, w = answers[known].astype(float), weights[known]
    mean = (w * y).sum() / w.sum()
    error = np.sqrt(len(y) / (len(y) - 1) * ((w * (y - mean)) ** 2).sum()) / w.sum()
    return mean, error


bicycle = (people["transport"] == "bicycle").where(people["transport"].notna())
share, share_se = estimate(bicycle, trimmed)
minutes, minutes_se = estimate(people["minutes"], trimmed)
result = {
    "bicycle_share": share,
    "bicycle_se": share_se,
    "minutes_mean": minutes,
    "minutes_se": minutes_se,
    "design_effect": effect(trimmed),
}
Path("results").mkdir(exist_ok=True)
trimmed.rename("weight").to_csv("results/weights.csv")
Path("results/estimates.json").write_text(json.dumps({key: float(value) for key, value in result.items()}, indent=2))
print("unweighted share", bicycle.mean(), "minutes", people["minutes"].mean())
print("answers: transport", bicycle.notna().sum(), "minutes", people["minutes"].notna().sum())
