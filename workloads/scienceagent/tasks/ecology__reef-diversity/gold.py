import numpy as np
import pandas as pd
from scipy.special import gammaln
from pathlib import Path

SAMPLE = 150
counts = pd.read_csv("data/counts.csv", sep=";")
counts["species"] = counts["species"].str.strip().str.lower()
counts = counts[counts["species"] != "unidentified"]
table = counts.pivot_table(index="site", columns="species", values="count", aggfunc="sum", fill_value=0)


def log_choose(n, k):
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


rows = []
for site, row in table.iterrows():
    there = row[row > 0].to_numpy()
    n = there.sum()
    p = there / n
    shannon = -(p * np.log(p)).sum()
    missed = np.exp(log_choose(n - there, SAMPLE) - log_choose(n, SAMPLE))
    rows.append((site, int(n), len(there), shannon, 1 - (p**2).sum(), shannon / np.log(len(there)), (1 - missed).sum()))

Path("results").mkdir(exist_ok=True)
columns = ["site", "individuals", "species", "shannon", "simpson", "evenness", "rarefied_150"]
result = pd.DataFrame(rows, columns=columns)
result.to_csv("results/diversity.csv", index=False)
print(result.round(4).to_string())
