"""Makes files/data: a sample that overrepresents the old, the educated and the north, and population margins."""

import numpy as np

rng = np.random.default_rng(4112)
AGE = {"18-34": 0.27, "35-54": 0.36, "55-74": 0.27, "75+": 0.10}
EDUCATION = {"primary": 0.24, "secondary": 0.45, "tertiary": 0.31}
REGION = {"north": 0.31, "south": 0.42, "islands": 0.27}
SHOWN = {"18-34": 0.14, "35-54": 0.30, "55-74": 0.38, "75+": 0.18, "primary": 0.10, "secondary": 0.40, "tertiary": 0.50,
         "north": 0.46, "south": 0.38, "islands": 0.16}
TOTAL = 412_000
with open("files/data/margins.csv", "w") as file:
    file.write("variable,category,population\n")
    for name, margin in (("age", AGE), ("education", EDUCATION), ("region", REGION)):
        for category, share in margin.items():
            file.write(f"{name},{category},{round(share * TOTAL)}\n")
other = {"north": "N", "south": "S", "islands": "I"}
with open("files/data/responses.csv", "w") as file:
    file.write("person,age,education,region,transport,minutes\n")
    for person in range(1, 901):
        age, education, region = (rng.choice(list(m), p=[SHOWN[c] for c in m]) for m in (AGE, EDUCATION, REGION))
        score = -1.1 + {"18-34": 0.9, "35-54": 0.3, "55-74": -0.4, "75+": -1.5}[age] + {"primary": -0.2, "secondary": 0, "tertiary": 0.4}[education]
        bicycle = rng.random() < 1 / (1 + np.exp(-score - {"north": 0.3, "south": 0, "islands": -0.5}[region]))
        transport = "bicycle" if bicycle else rng.choice(["car", "bus", "foot"], p=[0.6, 0.25, 0.15])
        minutes = rng.gamma(4, {"bicycle": 4.5, "car": 6.5, "bus": 9, "foot": 4}[transport]) + (8 if region == "south" else 0)
        home = rng.random() < 0.09
        if rng.random() < 0.03:
            transport = ""
        region = other[region] if person > 600 else region
        file.write(f"{1000 + person},{age},{education},{region},{transport},{'' if home else round(minutes)}\n")
