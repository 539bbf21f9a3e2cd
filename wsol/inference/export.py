"""A figure of boxes in anybody's pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from wsol.inference.inputs import Source, read_picture
from wsol.inference.localize import Found
from wsol.inference.settings import spoken
from wsol.report.figures import style

# What was found in pictures, for other programs and for the eye: CSV, COCO, overlays.

COLUMNS = (
    *("image", "width", "height", "rank", "label", "class_name", "score"),
    *("x0", "y0", "x1", "y1"),
)
DIGITS = 2  # of a pixel, in files
LINE = (0, 158, 115)  # the palette's green (Okabe and Ito 2008), which magma does not have
OPACITY = 0.6  # of the colour where the score is 1


def _corners(found: Found) -> list[float]:
    return [round(float(value), DIGITS) for value in found.box]


def found_table(found: Iterable[Found]) -> pd.DataFrame:
    """One row per entry: image, width, height, rank, label, class_name, score, x0, y0, x1, y1."""
    rows = [(*one[:6], round(one.score, 6), *_corners(one)) for one in found]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _writable(path: str | Path) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path)


def to_csv(found: Iterable[Found], path: str | Path) -> None:
    """Write `found_table` as CSV; the same findings always give the same bytes."""
    found_table(found).to_csv(_writable(path), index=False, lineterminator="\n", encoding="utf-8")


def _annotation(found: Found, number: int, image_id: int) -> dict[str, object]:
    x0, y0, x1, y1 = _corners(found)
    width, height = round(x1 - x0, DIGITS), round(y1 - y0, DIGITS)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": found.label + 1,
        "bbox": [x0, y0, width, height],
        "area": round(width * height, DIGITS),
        "iscrowd": 0,
        "score": round(found.score, 6),
    }


def to_coco(found: Iterable[Found], path: str | Path) -> None:
    """Write COCO's JSON for object detection: images, annotations, categories.

    All ids start at 1, a category's is its label + 1; the categories are the classes that were
    found. Beside the keys that COCO asks for, an annotation has its score. A picture without a box
    is listed among the images and has no annotation.
    """
    images: dict[str, dict[str, object]] = {}
    annotations: list[dict[str, object]] = []
    names: dict[int, str] = {}
    for one in found:
        sizes = {"file_name": one.image, "width": int(one.width), "height": int(one.height)}
        image = images.setdefault(one.image, {"id": len(images) + 1} | sizes)
        names[one.label] = one.class_name
        if np.any(one.box):
            annotations.append(_annotation(one, len(annotations) + 1, image["id"]))
    categories = [{"id": label + 1, "name": names[label]} for label in sorted(names)]
    tables = {"images": [*images.values()], "annotations": annotations, "categories": categories}
    text = json.dumps(tables, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    _writable(path).write_text(text, encoding="utf-8", newline="\n")


def overlay(
    image: NDArray[np.uint8], score_map: NDArray[np.floating], box: ArrayLike
) -> NDArray[np.uint8]:
    """Draw a score map as colour over a picture (H, W, 3), and its box, into a new array.

    score_map : (h, w) in [0, 1], stretched over the picture; where it is 0 the picture shows
    box : x0, y0, x1, y1 in pixels of the picture; of zero size, none is drawn
    """
    height, width = image.shape[:2]
    score = cv2.resize(np.float32(score_map), (width, height), interpolation=cv2.INTER_LINEAR)
    levels = np.round(255 * score.clip(0, 1)).astype(np.uint8)
    colour = cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA)[..., ::-1]  # from BGR
    opacity = OPACITY * levels[..., None] / 255
    mixed = np.round((1 - opacity) * image + opacity * colour)
    drawn = np.ascontiguousarray(mixed, np.uint8)  # OpenCV draws into no other
    x0, y0, x1, y1 = np.round(np.asarray(box, np.float64)).astype(int).tolist()
    if x1 > x0 and y1 > y0:
        thickness = max(1, round(min(height, width) / 100))
        for rim, line in ((3 * thickness, (0, 0, 0)), (thickness, LINE)):  # shows on any picture
            cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), line, rim)
    return drawn


SHORT = 384  # pixels of the shorter side that pictures are enlarged to, at most


def found_rows(rows: Mapping[str, Sequence[Found]], pictures: Sequence[Source]) -> Figure:
    """One row per entry of `rows`, one column per picture: score map, box in green, class, score.

    rows : by what stands beside the row, one answer for each of the pictures
    """
    with style():
        size = (1.75 * len(pictures) + 1.4, 2.0 * len(rows))
        figure, panels = plt.subplots(len(rows), len(pictures), figsize=size, squeeze=False)
        for line, (name, found) in zip(panels, rows.items(), strict=True):
            for axes, picture, one in zip(line, pictures, found, strict=True):
                shown, times = _enlarged(read_picture(picture))
                if one.score_map is not None:
                    shown = overlay(shown, one.score_map, times * one.box)
                axes.imshow(shown)
                axes.set(xticks=[], yticks=[])
                axes.set_title(f"{spoken(one.class_name)}, {one.score:.2f}", fontsize=8)
                axes.grid(False)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def _enlarged(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """A small picture (H, W, 3) several times as large, so that lines in it are thin; how often."""
    times = max(1, SHORT // min(picture.shape[:2]))
    return picture.repeat(times, axis=0).repeat(times, axis=1), times
