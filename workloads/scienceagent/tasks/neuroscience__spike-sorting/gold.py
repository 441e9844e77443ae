import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.signal import butter, find_peaks, sosfiltfilt
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

about = json.load(open("data/recording.json"))
rate = about["sampling_rate_hz"]
trace = np.load("data/trace.npy") * about["microvolt_per_count"]
fast = sosfiltfilt(butter(3, 300, "highpass", fs=rate, output="sos"), trace)
noise = np.median(np.abs(fast)) / 0.6745
peaks, _ = find_peaks(-fast, height=4.5 * noise, distance=int(0.001 * rate))
before, after = round(0.0008 * rate), round(0.0012 * rate)
peaks = peaks[(peaks >= before) & (peaks + after <= len(fast))]
waves = np.stack([fast[p - before : p + after] for p in peaks])
scores = PCA(3).fit_transform(waves)
best = max(
    (KMeans(k, n_init=10, random_state=0).fit_predict(scores) for k in range(2, 6)),
    key=lambda labels: silhouette_score(scores, labels),
)
Path("results").mkdir(exist_ok=True)
pd.DataFrame({"time_s": peaks / rate, "unit": best}).to_csv("results/spikes.csv", index=False)
figure, axes = plt.subplots(figsize=(6, 4))
times = np.arange(-before, after) / rate * 1000
for unit in np.unique(best):
    mean, spread = waves[best == unit].mean(axis=0), waves[best == unit].std(axis=0)
    axes.plot(times, mean, label=f"unit {unit}, {np.sum(best == unit)} spikes")
    axes.fill_between(times, mean - spread, mean + spread, alpha=0.25)
axes.set(xlabel="ms", ylabel="microvolt")
axes.legend()
figure.savefig("results/waveforms.png", dpi=110)
print("units:", np.bincount(best))
