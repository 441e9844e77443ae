"""Makes files/data/vibration.npy: imbalance, mains hum, noise, and impacts of an inner race fault that ring."""

import json

import numpy as np

rng = np.random.default_rng(4111)
RATE, SECONDS, SHAFT = 8192, 5, 24.31
BALLS, BALL, PITCH, ANGLE = 9, 7.94, 39.04, 0.0
n = RATE * SECONDS
t = np.arange(n) / RATE
impact = BALLS * SHAFT * (1 + BALL / PITCH * np.cos(ANGLE)) / 2
x = 0.9 * np.sin(2 * np.pi * SHAFT * t) + 0.3 * np.sin(4 * np.pi * SHAFT * t + 1) + 0.5 * np.sin(2 * np.pi * 100 * t)
x += rng.normal(0, 0.35, n)
ring = np.arange(200) / RATE
at = 0.003
while at < SECONDS - 0.03:
    strength = 1.1 * (1 + 0.6 * np.cos(2 * np.pi * SHAFT * at)) * rng.normal(1, 0.1)
    first = int(at * RATE)
    x[first : first + 200] += strength * np.exp(-ring * 700) * np.sin(2 * np.pi * 2350 * ring)
    at += (1 + rng.normal(0, 0.006)) / impact
np.save("files/data/vibration.npy", np.round(x / 0.002).astype(np.int16))
with open("files/data/bearing.json", "w") as file:
    json.dump({
        "sampling": {"rate_hz": RATE, "g_per_count": 0.002},
        "nominal_rpm": 1500,
        "bearing": {"balls": BALLS, "ball_diameter_mm": BALL, "pitch_diameter_mm": PITCH, "contact_angle_deg": ANGLE},
    }, file, indent=1)
