"""Makes files/data/outbreak.csv: an SIR epidemic with counting errors and days without a count."""

import numpy as np
from scipy.integrate import solve_ivp

rng = np.random.default_rng(4104)
N, BETA, GAMMA, FIRST = 812, 1.31, 0.52, 1.8
days = np.arange(26)
flow = solve_ivp(lambda t, y: (-BETA * y[0] * y[1] / N, BETA * y[0] * y[1] / N - GAMMA * y[1]), (0, 25),
                 (N - FIRST, FIRST), t_eval=days, rtol=1e-8)
bed = np.maximum(0, np.round(flow.y[1] + rng.normal(0, 1 + 0.03 * flow.y[1]))).astype(int)
ever = np.maximum.accumulate(np.round(N - flow.y[0] + rng.normal(0, 4, 26))).clip(1).astype(int)
with open("files/data/outbreak.csv", "w") as file:
    file.write("day,date,in_bed,cumulative\n")
    for day in days:
        date = f"{14 + day}.01." if day < 18 else f"{day - 17}.02."
        file.write(f"{day},{date},{'' if day in (6, 13, 20) else bed[day]},{'' if day in (6, 17) else ever[day]}\n")
