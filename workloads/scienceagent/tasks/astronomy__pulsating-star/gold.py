import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.optimize import curve_fit
from scipy.signal import lombscargle

star = pd.read_csv("data/photometry.csv")
good = star[star["flag"] == "ok"]
t, mag, error = (good[name].to_numpy() for name in ("jd", "mag", "mag_err"))
t = t - t[0]


def sinusoid(t, mean, a, b, f):
    return mean + a * np.sin(2 * np.pi * f * t) + b * np.cos(2 * np.pi * f * t)


def fit(start):
    best, _ = curve_fit(sinusoid, t, mag, p0=(mag.mean(), 0.1, 0.1, start), sigma=error)
    return best, (((mag - sinusoid(t, *best)) / error) ** 2).sum()


frequency = np.arange(0.5, 10, 0.0005)
power = lombscargle(t, mag - np.average(mag, weights=error**-2), 2 * np.pi * frequency)
peak = frequency[power.argmax()]
best, _ = min((fit(peak + alias) for alias in (-1, 0, 1) if peak + alias > 0.5), key=lambda found: found[1])
period = 1 / best[3]
result = {"period_days": period, "amplitude_mag": 2 * np.hypot(best[1], best[2]), "mean_mag": best[0]}

Path("results").mkdir(exist_ok=True)
Path("results/star.json").write_text(json.dumps(result, indent=2))
phase = (t / period) % 1
figure, axes = plt.subplots(figsize=(7, 4))
axes.errorbar(np.r_[phase, phase + 1], np.r_[mag, mag], yerr=np.r_[error, error], fmt=".", color="tab:blue")
grid = np.linspace(0, 2, 400)
axes.plot(grid, sinusoid(grid * period, *best), color="tab:red")
axes.set(xlabel="phase", ylabel="magnitude", title=f"P = {period:.5f} d")
axes.invert_yaxis()
figure.savefig("results/folded.png", dpi=120)
print(result)
