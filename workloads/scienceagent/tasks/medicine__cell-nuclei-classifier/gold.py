import json
from pathlib import Path

import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

cells = load_breast_cancer(as_frame=True)
split = pd.read_csv("data/split.csv", index_col="row")
train = split[(split["part"] == "train") & (split["trusted"] == "yes")].index
test = split[split["part"] == "test"].index
x, malignant = cells.data, cells.target == 0
model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=2000))
folds = StratifiedKFold(5, shuffle=True, random_state=0)
scores = cross_val_score(model, x.loc[train], malignant[train], cv=folds, scoring="roc_auc")
model.fit(x.loc[train], malignant[train])
p = model.predict_proba(x.loc[test])[:, list(model.classes_).index(True)]

Path("results").mkdir(exist_ok=True)
pd.DataFrame({"row": test, "p_malignant": p}).to_csv("results/predictions.csv", index=False)
Path("results/cv.json").write_text(json.dumps({"auc_mean": scores.mean(), "auc_std": scores.std()}))
print(scores.round(4), "share malignant: training", malignant[train].mean(), "predicted", p.mean())
