import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import curve_fit

R = 8.314


def decay(t, start, rest, k):
    return rest + (start - rest) * np.exp(-k * t)


runs = pd.read_csv("data/runs.csv", comment="#")
rates = {}
for celsius, run in runs.groupby("temperature_C"):
    t, a = run["time_s"].to_numpy(), run["absorbance"].to_numpy()
    guess = (a[0], a[-5:].mean(), 3 / t.max())
    best, covariance = curve_fit(decay, t, a, p0=guess)
    error = np.sqrt(np.diag(covariance))
    assert np.isfinite(error).all() and best[2] > 0, celsius
    spread = np.std(a - decay(t, *best), ddof=3)
    rates[int(celsius)] = float(best[2])
    print(f"{celsius} C: k = {best[2]:.4e} +- {error[2]:.1e} 1/s, residue {best[1]:.4f}, scatter {spread:.4f}")

kelvin = np.array(list(rates)) + 273.15
slope, intercept = np.polyfit(1 / kelvin, np.log(list(rates.values())), 1)
result = {
    "k": {str(celsius): k for celsius, k in rates.items()},
    "activation_energy_kJ_mol": float(-slope * R / 1000),
    "ln_prefactor": float(intercept),
}
Path("results").mkdir(exist_ok=True)
with open("results/kinetics.json", "w") as file:
    json.dump(result, file, indent=2)
print(json.dumps(result, indent=2))
