"""Makes files/data/counts.tsv (negative binomial counts), samples.csv and hidden/truth.json."""

import json

import numpy as np

rng = np.random.default_rng(4107)
GENES = 420
names = [f"Y{rng.choice(list('ABCDEFGHJKL'))}{rng.choice(list('LR'))}{i:03d}{rng.choice(list('CW'))}" for i in range(1, GENES + 1)]
mean = np.exp(rng.normal(4.2, 1.6, GENES))
mean[:6] = np.exp(rng.uniform(9.0, 9.8, 6))
change = np.zeros(GENES)
up, down = rng.choice(np.arange(10, GENES), 34, replace=False), []
mean[up] = np.maximum(mean[up], 60)
up, down = up[:24], up[24:]
change[up], change[down] = rng.uniform(1.6, 3.5, 24), -rng.uniform(1.6, 3.0, 10)
change[:4] = 2.2  # strong genes rise, and take a large share of all reads
samples = [(f"s{i:02d}", "heated" if i in (2, 3, 6, 8, 9) else "control") for i in range(1, 11)]
depth = rng.uniform(0.6, 1.8, 10)
depth[6] = 0.02
table = np.empty((GENES, 10), dtype=int)
for j, (_, group) in enumerate(samples):
    expected = mean * 2 ** (change * (group == "heated")) * depth[j]
    table[:, j] = rng.poisson(expected * rng.gamma(25, 1 / 25, GENES))
order = rng.permutation(GENES)
with open("files/data/counts.tsv", "w") as file:
    file.write("\t".join(["gene"] + [name for name, _ in samples]) + "\n")
    for i in order:
        file.write("\t".join([names[i], *map(str, table[i])]) + "\n")
with open("files/data/samples.csv", "w") as file:
    file.write("sample,group,temperature_C,batch\n")
    for name, group in sorted(samples, key=lambda s: (s[1], s[0])):
        file.write(f"{name.upper()},{group},{39 if group == 'heated' else 25},{rng.integers(1, 3)}\n")
json.dump({"changed": {names[i]: round(float(change[i]), 3) for i in np.flatnonzero(change)}},
          open("hidden/truth.json", "w"), indent=1)
