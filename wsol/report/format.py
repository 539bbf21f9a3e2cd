"""The one table formatter: results as CSV for programs, as Markdown and LaTeX for people."""

import json
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import pandas as pd

CSV_DIGITS = 4  # decimals of the numbers in a CSV
KEYS = ["dataset", "method", "backbone"]
MAIN = ("gt_known_loc_error", "top1_loc_error", "cls_error")
HEADERS = {
    "top1_loc_error": "Top-1 loc.",
    "top5_loc_error": "Top-5 loc.",
    "gt_known_loc_error": "GT-known loc.",
    "cls_error": "Classification",
    "gt_known_loc_error_oracle": "GT-known loc., oracle tau",
    "maxboxacc": "MaxBoxAcc",
    "maxboxacc_v2": "MaxBoxAccV2",
    "pxap": "PxAP",
    "tau": "tau",
}
CAPTION = (
    "Errors on `test` in % (lower is better), mean ± standard deviation over the seeds; MaxBoxAcc, "
    "MaxBoxAccV2 and PxAP are accuracies in % (higher is better). Errors: tau chosen on "
    "train-fullsup; oracle tau of the test split beside it, as in the three accuracies."
)


def rounded(value: float, digits: int = 1) -> str:
    """A number as a reader sees it everywhere: "-" for NaN, halves rounded away from zero.

    What is rounded is the value as it stands in the CSV, so that everybody who rounds that one by
    hand finds the same digits.
    """
    if np.isnan(value):
        return "-"
    written = Decimal(str(np.round(float(value), CSV_DIGITS)))
    return str(written.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def _cell(mean: float, sd: float, digits: int) -> str:
    """Mean and, where there is one, standard deviation."""
    return rounded(mean, digits) + ("" if np.isnan(sd) else f" ± {rounded(sd, digits)}")


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The headline table as text, headers in words."""
    shown = table[KEYS].rename(columns=lambda name: name.capitalize().replace("set", " set"))
    shown["Backbone"] = shown["Backbone"].replace("", "-")
    shown["Seeds"] = table["n_seeds"].astype("str")
    for name, header in HEADERS.items():
        sds = table.get(f"{name}_sd", pd.Series(np.nan, index=table.index))
        digits = 3 if name == "tau" else 1
        means = table[f"{name}_mean"]
        shown[header] = [_cell(m, s, digits) for m, s in zip(means, sds, strict=True)]
    return shown


def to_tex(shown: pd.DataFrame) -> str:
    """The same as a LaTeX table (booktabs), caption included."""
    text = shown.map(lambda cell: cell.replace(" ± ", r" $\pm$ "))
    body = text.to_latex(index=False, column_format="lll" + "r" * (shown.shape[1] - 3))
    caption = CAPTION.replace("%", r"\%").replace("±", r"$\pm$").replace("`test`", "test")
    return f"\\begin{{table}}\n\\caption{{{caption}}}\n{body}\\end{{table}}\n"


def write_headline(table: pd.DataFrame, out: Path, name: str = "localization_error") -> None:
    """Write ``<name>.csv``, .md and .tex."""
    out.mkdir(parents=True, exist_ok=True)
    write_csv(table, out / f"{name}.csv")
    shown = readable(table)
    right = ["left"] * 3 + ["right"] * (shown.shape[1] - 3)
    markdown = shown.to_markdown(index=False, colalign=right, disable_numparse=True)
    _write_text(out / f"{name}.md", f"{markdown}\n\n{CAPTION}\n")
    _write_text(out / f"{name}.tex", to_tex(shown))


def write_csv(table: pd.DataFrame, path: Path, digits: int = CSV_DIGITS) -> None:
    """Write a table of numbers, rounded to `digits`, the same bytes everywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.round(digits).to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def write_metrics(table: pd.DataFrame, path: Path) -> None:
    """Write the headline's three main errors as metrics.json, by method, for `dvc metrics show`."""
    tree: dict = {}
    for row in table.round(2).to_dict("records"):
        means = {name: row[f"{name}_mean"] for name in MAIN}
        defined = {name: mean for name, mean in means.items() if not np.isnan(mean)}
        tree.setdefault(row["dataset"], {})[row["method"]] = defined
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_text(path, json.dumps(tree, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
