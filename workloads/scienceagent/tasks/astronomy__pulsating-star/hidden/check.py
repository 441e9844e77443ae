"""Compares with the sinusoid that the data were made with."""

import json

said = json.load(open("results/star.json"))
png = open("results/folded.png", "rb").read()
print(json.dumps({
    "period": abs(float(said["period_days"]) - 0.61347) < 0.0008,
    "amplitude": abs(float(said["amplitude_mag"]) - 0.470) < 0.025,
    "mean magnitude": abs(float(said["mean_mag"]) - 11.482) < 0.012,
    "figure": png.startswith(b"\x89PNG") and len(png) > 4000,
}))
