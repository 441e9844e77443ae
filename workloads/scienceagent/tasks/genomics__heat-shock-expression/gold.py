from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

counts = pd.read_csv("data/counts.tsv", sep="\t", index_col="gene")
samples = pd.read_csv("data/samples.csv", index_col="sample")
samples.index = samples.index.str.lower()
depth = counts.sum()
counts = counts.loc[:, depth >= depth.median() / 10]
heated = (samples.loc[counts.columns, "group"] == "heated").to_numpy()

logs = np.log(counts[(counts > 0).all(axis=1)])
factors = np.exp(logs.sub(logs.mean(axis=1), axis=0).median())
counts = counts[counts.sum(axis=1) >= 10]
logged = np.log2(counts.div(factors) + 1)
change = logged.loc[:, heated].mean(axis=1) - logged.loc[:, ~heated].mean(axis=1)
p = ttest_ind(logged.loc[:, heated], logged.loc[:, ~heated], axis=1, equal_var=False).pvalue


def benjamini_hochberg(p):
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
    return adjusted[np.argsort(order)]


genes = pd.DataFrame({"log2_fold_change": change, "p_value": p, "p_adjusted": benjamini_hochberg(p)})
genes = genes.sort_values(["p_adjusted", "p_value"])
assert genes["p_adjusted"].between(genes["p_value"], 1).all(), "an adjusted p-value is below the raw one"
Path("results").mkdir(exist_ok=True)
genes.to_csv("results/genes.csv")
print((genes["p_adjusted"] < 0.05).sum(), "genes")

hit = (genes["p_adjusted"] < 0.05) & (genes["log2_fold_change"].abs() > 1)
figure, axes = plt.subplots(figsize=(6, 5))
axes.scatter(genes["log2_fold_change"], -np.log10(genes["p_adjusted"]), s=10, c=np.where(hit, "tab:red", "grey"))
axes.axhline(-np.log10(0.05), ls=":", color="black")
axes.set(xlabel="log2 fold change, heated over control", ylabel="-log10 adjusted p")
figure.savefig("results/volcano.png", dpi=110)
print("changed more than twofold:", (hit & (genes["log2_fold_change"] > 0)).sum(), "up,", (hit & (genes["log2_fold_change"] < 0)).sum(), "down")
print(genes.head(6))
