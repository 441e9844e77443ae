"""Compares with the epidemic that the data were made with."""

import json

said = json.load(open("results/sir.json"))
png = open("results/outbreak.png", "rb").read()


def near(key, value, share):
    return abs(float(said[key]) / value - 1) < share


print(json.dumps({
    "beta": near("beta", 1.31, 0.04),
    "gamma": near("gamma", 0.52, 0.05),
    "R0": near("R0", 1.31 / 0.52, 0.05) and near("R0", float(said["beta"]) / float(said["gamma"]), 0.001),
    "initially infected": near("initially_infected", 1.8, 0.35),
    "peak day": abs(float(said["peak_day"]) - 8.3) < 0.5,
    "figure": png.startswith(b"\x89PNG") and len(png) > 4000,
}))
