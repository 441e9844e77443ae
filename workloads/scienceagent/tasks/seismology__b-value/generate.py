"""Makes files/data/catalogue.csv: exponential magnitudes, detected more rarely the smaller they are, and blasts."""

import numpy as np

rng = np.random.default_rng(4105)
B, HALF_SEEN = 0.92, 1.32
with open("files/data/catalogue.csv", "w") as file:
    file.write("time,latitude,longitude,depth_km,mag,type\n")
    rows = []
    for _ in range(22_000):
        mag = rng.exponential(np.log10(np.e) / B)
        if rng.random() < 1 / (1 + np.exp(-(mag - HALF_SEEN) / 0.10)):
            depth = rng.gamma(3, 4) if rng.random() < 0.85 else rng.uniform(35, 120)
            rows.append((rng.uniform(0, 3650), depth, mag, "earthquake"))
    rows += [(int(rng.uniform(0, 3650)) + rng.uniform(0.4, 0.6), 0.0, rng.normal(1.9, 0.12), "blast") for _ in range(160)]
    for day, depth, mag, kind in sorted(rows):
        when = np.datetime64("2008-01-01T00:00:00") + np.timedelta64(int(day * 86400), "s")
        lat, lon = 46.2 + rng.normal(0, 0.4), 7.6 + rng.normal(0, 0.6)
        shown = "" if rng.random() < 0.006 else f"{round(mag, 1):.1f}"
        kind = kind if kind == "earthquake" else ["quarry blast", "Quarry Blast", "explosion"][rng.integers(3)]
        file.write(f"{when},{lat:.2f},{lon:.2f},{depth:.0f},{shown},{kind}\n")
