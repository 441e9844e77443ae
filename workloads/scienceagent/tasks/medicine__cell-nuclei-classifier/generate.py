"""Makes files/data/split.csv: 30% test rows, and some training rows whose diagnosis is not trusted."""

import numpy as np

rng = np.random.default_rng(4110)
part = rng.permutation(["test"] * 171 + ["train"] * 398)
with open("files/data/split.csv", "w") as file:
    file.write("row,part,trusted\n")
    for row, name in enumerate(part):
        file.write(f"{row},{name},{('no' if rng.random() < 0.05 else 'yes') if name == 'train' else ''}\n")
