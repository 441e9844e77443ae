import json
from pathlib import Path

import numpy as np
import pandas as pd

catalogue = pd.read_csv("data/catalogue.csv")
shallow = catalogue[(catalogue["type"] == "earthquake") & (catalogue["depth_km"] < 30)].dropna(subset=["mag"])
tenths = (shallow["mag"] * 10).round().astype(int)


def gutenberg_richter(least):
    mags = tenths[tenths >= least] / 10
    n = len(mags)
    b = np.log10(np.e) / (mags.mean() - (least / 10 - 0.05))
    error = 2.30 * b**2 * np.sqrt(((mags - mags.mean()) ** 2).sum() / (n * (n - 1)))
    return {"mc": least / 10, "b": b, "b_error": error, "a": np.log10(n) + b * least / 10, "events_used": n}


mc = tenths.value_counts().idxmax() + 2
for least in range(mc - 4, mc + 5):
    found = gutenberg_richter(least)
    print(" ".join(f"{key}={value:.3f}" for key, value in found.items()), "<- maximum curvature + 0.2" if least == mc else "")
found = {key: float(value) for key, value in gutenberg_richter(mc).items()}
found["events_used"] = int(found["events_used"])
Path("results").mkdir(exist_ok=True)
Path("results/gr.json").write_text(json.dumps(found, indent=2))
