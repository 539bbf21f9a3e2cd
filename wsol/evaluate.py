"""Evaluate anybody's score maps, whatever made them.

    python -m wsol.evaluate SCOREMAPS --metadata DIR [--fullsup SCOREMAPS DIR]
        [--predictions CSV] [--masks DIR] [--map-class label|predicted]
        [--protocol choe2020] [--json OUT] [--table OUT] [--workers N]

SCOREMAPS is a folder of `<image_id>.npy` or one `.npy` of (N, H, W), see `wsol.evaluation.heatmaps`. DIR
holds image_ids.txt, class_labels.txt, image_sizes.txt and localization.txt in the format of Choe
et al. 2020, see `wsol.datasets.metadata`. From Python, the same is
`wsol.evaluation.summary.evaluate_score_maps`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsol.evaluation import metrics, stats
from wsol.evaluation.protocols import CHOE2020, PROTOCOLS
from wsol.evaluation.summary import FULLSUP, MAP_CLASSES, evaluate_score_maps, image_rows

SHOWN = (*stats.ERRORS, "cls_error", "maxboxacc", "pxap", "pixel_iou")  # in %, in this order
BEST_TAU = "at the best tau of these images (oracle)"


def in_words(found: dict[str, Any]) -> str:
    """The numbers that a person looks at first."""
    source = "chosen on train-fullsup" if found["tau_source"] == FULLSUP else "oracle"
    lines = [
        f"{found['n_images']} images, protocol {found['protocol']}, maps of the "
        f"{found.get('map_class', 'label')} class, tau = {found['tau']:.3f} ({source})"
    ]
    for name in SHOWN:
        if found.get(name) is not None:
            low_high = found.get("intervals", {}).get(name)
            interval = f"  (95 %: {low_high[0]:.2f} to {low_high[1]:.2f})" if low_high else ""
            remark = f"  {BEST_TAU}" if name == "maxboxacc" else ""
            lines.append(f"{name:>20} {found[name]:7.2f} %{interval}{remark}")
    v2 = found.get("maxboxacc_v2")
    if v2 is not None:
        parts = ", ".join(f"{v2[part]:.2f} at .{part}" for part in metrics.PARTS)
        lines.append(f"{'maxboxacc_v2':>20} {v2['mean']:7.2f} %  ({parts})  {BEST_TAU}")
    return "\n".join(lines)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m wsol.evaluate", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "score_maps", metavar="SCOREMAPS", help="folder of <image_id>.npy, or a .npy"
    )
    parser.add_argument("--metadata", required=True, metavar="DIR", help="image ids, labels, boxes")
    parser.add_argument("--fullsup", nargs=2, metavar=("SCOREMAPS", "DIR"), help="to choose tau on")
    parser.add_argument("--predictions", metavar="CSV", help="image_id and five ranked classes")
    parser.add_argument("--masks", metavar="DIR", help="masks for PxAP, <image id>.png")
    parser.add_argument("--map-class", choices=MAP_CLASSES, default="label", help="whose maps")
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default=CHOE2020.name, help="preset (%(default)s)"
    )
    parser.add_argument("--json", metavar="OUT", help="write all numbers and curves")
    parser.add_argument("--table", metavar="OUT", help="write the images, as .csv or .npz")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads (%(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 2 and one message where something is wrong with the input."""
    given = _arguments(argv)
    try:
        if given.table and given.protocol != CHOE2020.name:
            raise ValueError(f"--table is of {CHOE2020.name}; {given.protocol} leaves none")
        found, table = evaluate_score_maps(
            given.score_maps,
            given.metadata,
            fullsup=given.fullsup,
            predictions=given.predictions,
            masks=given.masks,
            map_class=given.map_class,
            protocol=given.protocol,
            workers=given.workers,
            progress=True,
        )
    except (ValueError, OSError) as error:  # of what was given, and they say what is wrong
        print(f"wsol.evaluate: {error}", file=sys.stderr)
        return 2
    print(in_words(found))
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if given.table and given.table.endswith(".npz"):
        table.save(given.table)
    elif given.table:
        image_rows(table, found["tau"]).to_csv(given.table, index=False, lineterminator="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
