import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.integrate import solve_ivp
from scipy.optimize import least_squares
from pathlib import Path

N = 812
data = pd.read_csv("data/outbreak.csv")
days, bed, ever = (data[name].to_numpy(float) for name in ("day", "in_bed", "cumulative"))
bed_seen, ever_seen = np.isfinite(bed), np.isfinite(ever)


def model(parameters, times):
    beta, gamma, first = parameters

    def flow(t, y):
        new = beta * y[0] * y[1] / N
        return -new, new - gamma * y[1]

    return solve_ivp(flow, (0, times[-1]), (N - first, first), t_eval=times, rtol=1e-8).y


def residuals(parameters):
    susceptible, infected = model(parameters, days)
    return np.concatenate([(infected - bed)[bed_seen], (N - susceptible - ever)[ever_seen]])


starts = [(1.0, 0.5, 1.0), (0.6, 0.1, 5.0), (2.0, 0.3, 20.0)]
fits = [least_squares(residuals, x0=start, bounds=(1e-6, (10, 10, 50))) for start in starts]
best = min(fits, key=lambda fit: fit.cost)
beta, gamma, first = best.x
grid = np.linspace(0, days[-1], 2501)
susceptible, infected = model(best.x, grid)
result = {
    "beta": beta,
    "gamma": gamma,
    "R0": beta / gamma,
    "initially_infected": first,
    "peak_day": np.round(grid[infected.argmax()], 1),
}
Path("results").mkdir(exist_ok=True)
figure, axes = plt.subplots(figsize=(7, 4))
axes.plot(days, bed, "o", label="in bed")
axes.plot(days, ever, "s", label="cumulative")
axes.plot(grid, infected, "-", color="C0")
axes.plot(grid, N - susceptible, "-", color="C1")
axes.set(xlabel="day", ylabel="pupils", title=f"R0 = {beta / gamma:.2f}")
axes.legend()
figure.savefig("results/outbreak.png", dpi=110)
Path("results/sir.json").write_text(json.dumps({key: float(value) for key, value in result.items()}, indent=2))
print(result)
