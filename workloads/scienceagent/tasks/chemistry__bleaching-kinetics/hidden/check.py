"""Compares with the constants that the data were made with."""

import json
import math

R, EA, LN_A = 8.314, 58_000.0, 17.9
said = json.load(open("results/kinetics.json"))
checks = {}
for celsius in (25, 35, 45, 55):
    true = math.exp(LN_A - EA / (R * (celsius + 273.15)))
    checks[f"k at {celsius} C"] = abs(float(said["k"][str(celsius)]) / true - 1) < 0.04
checks["activation energy"] = abs(float(said["activation_energy_kJ_mol"]) - EA / 1000) < 2.0
checks["prefactor"] = abs(float(said["ln_prefactor"]) - LN_A) < 0.8
print(json.dumps(checks))
