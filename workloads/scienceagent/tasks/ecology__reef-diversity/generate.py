"""Makes files/data: fish counts of five reefs with log-series abundances, written down untidily."""

import numpy as np

rng = np.random.default_rng(4103)
GENERA = ["Chromis", "Scarus", "Abudefduf", "Thalassoma", "Acanthurus", "Chaetodon", "Lutjanus", "Halichoeres"]
EPITHETS = ["viridis", "niger", "fasciatus", "lunaris", "ovalis"]
SPECIES = [f"{genus} {epithet}" for genus in GENERA for epithet in EPITHETS]
SITES = {"Anker": (34, 0.86, "none"), "Bligh": (29, 0.93, "no-take"), "Coral Gate": (38, 0.95, "no-take"),
         "Dunmore": (16, 0.80, "none"), "Eddystone": (24, 0.90, "partial")}
with open("files/data/sites.csv", "w") as file:
    file.write("site,protection,depth_m\n")
    for site, (_, _, protection) in SITES.items():
        file.write(f"{site},{protection},{rng.integers(4, 15)}\n")
with open("files/data/counts.csv", "w") as file:
    file.write("site;transect;species;count\n")
    for site, (richness, evenness, _) in SITES.items():
        there = rng.choice(SPECIES, richness, replace=False)
        mean = 42 * evenness ** np.arange(richness)
        for transect in range(1, 5):
            for species, expected in zip(there, mean, strict=True):
                count = rng.poisson(expected / 4 * rng.gamma(6, 1 / 6))
                if count or rng.random() < 0.15:
                    name = [species, species, species, species.lower(), f"{species} ", species.upper()][rng.integers(6)]
                    file.write(f"{site};{transect};{name};{count}\n")
            name = ["unidentified", "Unidentified", "UNIDENTIFIED "][rng.integers(3)]
            file.write(f"{site};{transect};{name};{rng.integers(1, 12)}\n")
