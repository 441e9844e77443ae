from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd


def read(number):
    file = Path(f"data/specimen_{number}.csv")
    comma = "," in file.read_text()
    return pd.read_csv(file, sep=";", decimal="," if comma else ".").astype(float)


rows = []
figure, axes = plt.subplots(figsize=(7, 5))
for _, specimen in pd.read_csv("data/specimens.csv").iterrows():
    curve = read(specimen["specimen"])
    stress = curve["force_kN"].to_numpy() * 1000 / (np.pi * specimen["diameter_mm"] ** 2 / 4)
    strain = curve["extension_mm"].to_numpy() / specimen["gauge_mm"]
    top = stress.argmax()
    straight = (stress > 100) & (stress < 200) & (np.arange(len(stress)) < top)
    modulus, intercept = np.polyfit(strain[straight], stress[straight], 1)
    strain = strain + intercept / modulus
    above = stress - modulus * (strain - 0.002)
    first = np.flatnonzero(above < 0)[0]
    share = above[first - 1] / (above[first - 1] - above[first])
    yielding = stress[first - 1] + share * (stress[first] - stress[first - 1])
    rows.append((specimen["specimen"], modulus / 1000, yielding, stress[top], 100 * strain[top]))
    axes.plot(100 * strain, stress, label=f"specimen {specimen['specimen']}")
    axes.plot([0.2, 0.2 + 100 * yielding / modulus], [0, yielding], "k:", lw=0.8)

axes.set(xlabel="engineering strain, %", ylabel="engineering stress, MPa")
axes.legend()
Path("results").mkdir(exist_ok=True)
figure.savefig("results/curves.png", dpi=110)
columns = ["specimen", "modulus_GPa", "yield_MPa", "uts_MPa", "uniform_elongation_pct"]
result = pd.DataFrame(rows, columns=columns)
result.to_csv("results/tensile.csv", index=False)
print(result.round(2).to_string(index=False))
