"""Makes files/data: three tensile tests of elastic, then hardening steel, with a toe and noise; and hidden/truth.json."""

import json

import numpy as np

rng = np.random.default_rng(4108)
truth = {}
with open("files/data/specimens.csv", "w") as listing:
    listing.write("specimen,diameter_mm,gauge_mm,operator\n")
    for number, (modulus, strength, yielding, n, peak) in enumerate(
        [(206e3, 640, 395, 0.12, 0.13), (211e3, 610, 405, 0.10, 0.115), (203e3, 668, 410, 0.13, 0.14)], 1
    ):
        diameter, gauge = 8 + rng.normal(0, 0.02), 40 + rng.normal(0, 0.05)
        listing.write(f"{number},{diameter:.3f},{gauge:.2f},{rng.choice(['kw', 'jb'])}\n")
        area = np.pi * round(diameter, 3) ** 2 / 4
        gauge = round(gauge, 2)
        limit = 0.82 * yielding
        stress = np.concatenate([np.linspace(0, limit, 120), limit + (strength - limit) * (1 - (1 - np.linspace(0, 1, 260)[1:]) ** 2)])
        plastic = 0.002 * ((stress - limit).clip(0) / (yielding - limit)) ** 2.5
        scale = (peak - strength / modulus) / plastic[-1]
        bent = stress > yielding
        x = (stress[bent] - yielding) / (strength - yielding)
        plastic[bent] = 0.002 + 0.0012 * x + (peak - strength / modulus - 0.0032) * x**3
        strain = stress / modulus + plastic
        toe = 0.00045 * (1 - np.exp(-stress / 22))
        after = np.linspace(0, 1, 60)[1:]
        strain = np.concatenate([strain + toe, strain[-1] + toe[-1] + 0.05 * after])
        stress = np.concatenate([stress, strength * (1 - 0.22 * after**2)])
        force = stress * area / 1000 + rng.normal(0, 0.012, stress.size)
        extension = strain * gauge + rng.normal(0, 0.00025, strain.size)
        with open(f"files/data/specimen_{number}.csv", "w") as file:
            file.write("time_s;force_kN;extension_mm\n")
            for i in range(force.size):
                row = f"{i * 0.5:.1f};{force[i]:.3f};{extension[i]:.4f}\n"
                file.write(row.replace(".", ",") if number == 2 else row)
        truth[number] = {"modulus_GPa": modulus / 1e3, "yield_MPa": yielding, "uts_MPa": strength, "uniform_elongation_pct": 100 * peak}
json.dump(truth, open("hidden/truth.json", "w"), indent=1)
