"""Makes files/data/photometry.csv: a sinusoid seen on some nights from one place, with cloudy points."""

import numpy as np

rng = np.random.default_rng(4102)
PERIOD, HALF, MEAN = 0.61347, 0.235, 11.482
with open("files/data/photometry.csv", "w") as file:
    file.write("jd,mag,mag_err,flag\n")
    for night in sorted(rng.choice(118, 46, replace=False)):
        for hour in sorted(rng.uniform(-4.5, 4.5, rng.integers(3, 8))):
            day = 2460310.5 + night + hour / 24
            error = rng.uniform(0.012, 0.035)
            mag = MEAN + HALF * np.sin(2 * np.pi * (day - 2460310.0) / PERIOD) + rng.normal(0, error)
            cloudy = rng.random() < 0.06
            shown = "99.999" if cloudy and rng.random() < 0.5 else f"{mag + (rng.uniform(0.5, 2) if cloudy else 0):.3f}"
            file.write(f"{day:.5f},{shown},{error:.3f},{'cloud' if cloudy else 'ok'}\n")
