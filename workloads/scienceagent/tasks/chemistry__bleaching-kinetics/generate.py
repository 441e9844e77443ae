"""Makes files/data/runs.csv: four exponential decays to a residual absorbance, with photometer noise."""

import numpy as np

rng = np.random.default_rng(4101)
R, EA, LN_A = 8.314, 58_000.0, 17.9
with open("files/data/runs.csv", "w") as file:
    file.write("# photometer P-12, cuvette 10 mm, 612 nm\n# lamp warmed up for 30 min, blank subtracted\n")
    file.write("run,temperature_C,time_s,absorbance\n")
    for run, (celsius, rest) in enumerate([(25, 0.081), (35, 0.094), (45, 0.102), (55, 0.090)], 1):
        k = np.exp(LN_A - EA / (R * (celsius + 273.15)))
        times = np.linspace(0, 3.5 / k, 45).round(1)
        values = rest + (0.92 - rest) * np.exp(-k * times) + rng.normal(0, 0.003, times.size)
        for time, value in zip(times, values, strict=True):
            file.write(f"{run},{celsius},{time},{value:.4f}\n")
