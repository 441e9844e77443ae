"""Makes files/data/station.txt: season, warming and autocorrelated years, with missing and estimated months."""

import numpy as np

rng = np.random.default_rng(4109)
with open("files/data/station.txt", "w") as file:
    file.write("STATION 0711 HOCHJOCH   ELEV 1967 M   UNITS 0.1 DEG C   MISSING -9999\nYEAR  JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC\n")
    state = 0.0
    for year in range(1951, 2024):
        state = 0.35 * state + rng.normal(0, 0.42)
        trend = 0.12 * (year - 1951) / 10 if year < 1980 else 0.12 * 2.9 + 0.34 * (year - 1980) / 10
        cells = []
        for month in range(12):
            value = 1.5 - 8.5 * np.cos(2 * np.pi * (month - 0.6) / 12) + trend + state + rng.normal(0, 1.3)
            missing = rng.random() < 0.02 or (year in (1957, 1958) and month in (0, 1, 11)) or (year == 1991 and month < 2)
            estimate = rng.random() < 0.02
            cells.append("-9999" if missing else f"{round(value * 10)}{'E' if estimate else ''}")
        file.write(f"{year}  " + " ".join(f"{cell:>5}" for cell in cells) + "\n")
