"""Makes files/data/trace.npy (three neurons, noise, slow waves) and hidden/truth.csv."""

import json

import numpy as np

rng = np.random.default_rng(4106)
RATE, SECONDS = 12_000, 5
n = RATE * SECONDS
t = np.arange(-12, 24) / RATE * 1000


def shape(depth, width, after, lag):
    return -depth * np.exp(-((t / width) ** 2)) + after * np.exp(-(((t - lag) / (2.2 * width)) ** 2))


UNITS = [(shape(230, 0.12, 90, 0.45), 14), (shape(150, 0.15, 25, 0.9), 22), (shape(370, 0.19, 40, 0.9), 8)]
trace = rng.normal(0, 8, n) + 80 * np.sin(2 * np.pi * 6.5 * np.arange(n) / RATE) + 25 * np.sin(2 * np.pi * 50 * np.arange(n) / RATE)
truth, last = [], -100
for at in np.sort(rng.choice(n - 200, int(sum(rate for _, rate in UNITS) * SECONDS), replace=False)) + 100:
    if at - last < 0.0025 * RATE:
        continue
    unit = rng.choice(3, p=np.array([14, 22, 8]) / 44)
    trace[at - 12 : at + 24] += UNITS[unit][0] * rng.normal(1, 0.05)
    truth.append((at / RATE, unit))
    last = at
np.save("files/data/trace.npy", np.round(trace / 0.5).astype(np.int16))
with open("files/data/recording.json", "w") as file:
    json.dump({"sampling_rate_hz": RATE, "microvolt_per_count": 0.5, "electrode": "tungsten, 1 MOhm"}, file)
with open("hidden/truth.csv", "w") as file:
    file.write("time_s,unit\n" + "".join(f"{time:.5f},{unit}\n" for time, unit in truth))
