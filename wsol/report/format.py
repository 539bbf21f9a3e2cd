"""Formatting of result tables: CSV for programs, Markdown and LaTeX for people."""

import json
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wsol.datasets.files import write_table, write_text
from wsol.datasets.index import TRAIN_FULLSUP
from wsol.evaluation.metrics import ERRORS, PARTS

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
BEST_TAU = "at the best tau of these images (oracle)"


def rounded(value: float, digits: int = 1) -> str:
    """Format a number: "-" for NaN, halves of the number in the CSV rounded away from zero."""
    if np.isnan(value):
        return "-"
    written = Decimal(str(np.round(float(value), CSV_DIGITS)))
    return str(written.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Format the headline table as text, with headers in words."""
    text = table[KEYS].rename(columns=lambda name: name.capitalize().replace("set", " set"))
    text["Backbone"] = text["Backbone"].replace("", "-")
    text["Seeds"] = table["n_seeds"].astype("str")
    for name, header in HEADERS.items():
        text[header] = [rounded(mean, 3 if name == "tau" else 1) for mean in table[f"{name}_mean"]]
        if f"{name}_sd" in table:
            text[header] += [f" ± {rounded(sd)}".replace(" ± -", "") for sd in table[f"{name}_sd"]]
    return text


def to_tex(text: pd.DataFrame) -> str:
    """Format the text of `readable` as a LaTeX table (booktabs) with a caption."""
    cells = text.map(lambda cell: cell.replace(" ± ", r" $\pm$ "))
    body = cells.to_latex(index=False, column_format="lll" + "r" * (text.shape[1] - 3))
    caption = CAPTION.replace("%", r"\%").replace("±", r"$\pm$").replace("`test`", "test")
    return f"\\begin{{table}}\n\\caption{{{caption}}}\n{body}\\end{{table}}\n"


def write_headline(table: pd.DataFrame, out: Path, name: str = "localization_error") -> None:
    """Write ``<name>.csv``, .md and .tex."""
    write_csv(table, out / f"{name}.csv")
    text = readable(table)
    align = ["left"] * 3 + ["right"] * (text.shape[1] - 3)
    markdown = text.to_markdown(index=False, colalign=align, disable_numparse=True)
    write_text(out / f"{name}.md", f"{markdown}\n\n{CAPTION}\n")
    write_text(out / f"{name}.tex", to_tex(text))


def write_csv(table: pd.DataFrame, path: Path, digits: int = CSV_DIGITS) -> None:
    """Write a table of numbers, rounded to `digits`, the same bytes everywhere."""
    write_table(table.round(digits), path)


def write_metrics(table: pd.DataFrame, path: Path) -> None:
    """Write the three main errors of the headline by method, as JSON for `dvc metrics show`."""
    tree: dict = {}
    for row in table.round(2).to_dict("records"):
        means = {name: row[f"{name}_mean"] for name in MAIN}
        defined = {name: mean for name, mean in means.items() if not np.isnan(mean)}
        tree.setdefault(row["dataset"], {})[row["method"]] = defined
    write_text(path, json.dumps(tree, indent=2) + "\n")


def format_summary(summary: dict[str, Any]) -> str:
    """The main numbers of `wsol.evaluation.summary.summarize` as text, one per line."""
    source = "chosen on train-fullsup" if summary["tau_source"] == TRAIN_FULLSUP else "oracle"
    lines = [
        f"{summary['n_images']} images, protocol {summary['protocol']}, maps of the "
        f"{summary.get('map_class', 'label')} class, tau = {summary['tau']:.3f} ({source})"
    ]
    if summary.get("averaged_over", "images") != "images":
        lines[0] += f", mean over the {summary['averaged_over']}"
    for name in (*ERRORS, "cls_error", "maxboxacc", "pxap", "pixel_iou"):
        if summary.get(name) is not None:
            low_high = summary.get("intervals", {}).get(name)
            interval = f"  (95 %: {low_high[0]:.2f} to {low_high[1]:.2f})" if low_high else ""
            remark = f"  {BEST_TAU}" if name == "maxboxacc" else ""
            lines.append(f"{name:>20} {summary[name]:7.2f} %{interval}{remark}")
    published = summary.get("at_published_tau", {})
    lines += [
        f"{name:>20} {published[name]:7.2f} %  at the published tau = {published['tau']:g}"
        for name in ERRORS
        if published.get(name) is not None
    ]
    v2 = summary.get("maxboxacc_v2")
    if v2 is not None:
        parts = ", ".join(f"{v2[part]:.2f} at .{part}" for part in PARTS)
        lines.append(f"{'maxboxacc_v2':>20} {v2['mean']:7.2f} %  ({parts})  {BEST_TAU}")
    return "\n".join(lines)
