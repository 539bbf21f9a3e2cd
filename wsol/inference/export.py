"""Detections as CSV, as COCO JSON and drawn into images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from wsol.datasets.files import write_table, write_text, written_whole
from wsol.datasets.progress import ProgressBar
from wsol.inference.localize import Detection, Source, image_files, iterate_images, read_image
from wsol.inference.published import run_folder
from wsol.inference.settings import display_name
from wsol.report.style import style

COLUMNS = (*Detection._fields[:7], "x0", "y0", "x1", "y1")
DIGITS = 2  # of a pixel, in files
LINE = (0, 158, 115)  # the palette's green (Okabe and Ito 2008), which magma does not have
OPACITY = 0.6  # of the colour where the score is 1
MIN_SIDE = 384  # pixels of the shorter side that small images are enlarged to in figures


def _corners(detection: Detection) -> list[float]:
    return [round(float(value), DIGITS) for value in detection.box]


def detections_table(detections: Iterable[Detection]) -> pd.DataFrame:
    """One row per detection with `COLUMNS`; boxes in pixels, rounded to `DIGITS`."""
    rows = [(*d[:6], round(d.score, 6), *_corners(d)) for d in detections]
    return pd.DataFrame(rows, columns=COLUMNS)


def to_csv(detections: Iterable[Detection], path: str | Path) -> None:
    """Write `detections_table` as CSV; the same detections always give the same bytes."""
    write_table(detections_table(detections), path)


def to_coco(detections: Iterable[Detection], path: str | Path) -> None:
    """Write detections in COCO's JSON format: images, annotations, categories.

    All ids start at 1, a category's is its label + 1; the categories are the classes that occur.
    Beside COCO's own keys an annotation has its score. An image without a box has no annotation.
    """
    images: dict[str, dict[str, object]] = {}
    annotations: list[dict[str, object]] = []
    names: dict[int, str] = {}
    for d in detections:
        about = {"file_name": d.image, "width": int(d.width), "height": int(d.height)}
        image = images.setdefault(d.image, {"id": len(images) + 1} | about)
        names[d.label] = d.class_name
        if not np.any(d.box):
            continue
        x0, y0, x1, y1 = _corners(d)
        width, height = round(x1 - x0, DIGITS), round(y1 - y0, DIGITS)
        ids = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": d.label + 1}
        box = {"bbox": [x0, y0, width, height], "area": round(width * height, DIGITS)}
        annotations.append(ids | box | {"iscrowd": 0, "score": round(d.score, 6)})
    categories = [{"id": label + 1, "name": names[label]} for label in sorted(names)]
    content = {"images": [*images.values()], "annotations": annotations, "categories": categories}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def overlay(
    image: NDArray[np.uint8], score_map: NDArray[np.floating], box: ArrayLike
) -> NDArray[np.uint8]:
    """Draw a score map as colour over a copy of an image (H, W, 3), and its box.

    score_map : (h, w) in [0, 1], stretched over the image, transparent where it is 0
    box : x0, y0, x1, y1 in pixels of the image; of zero size, none is drawn
    """
    height, width = image.shape[:2]
    score = cv2.resize(np.float32(score_map), (width, height), interpolation=cv2.INTER_LINEAR)
    levels = np.round(255 * score.clip(0, 1)).astype(np.uint8)
    colour = cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA)[..., ::-1]  # from BGR
    opacity = OPACITY * levels[..., None] / 255
    mixed = np.round((1 - opacity) * image + opacity * colour)
    canvas = np.ascontiguousarray(mixed, np.uint8)  # as OpenCV needs it
    x0, y0, x1, y1 = np.round(np.asarray(box, np.float64)).astype(int).tolist()
    if x1 > x0 and y1 > y0:
        thickness = max(1, round(min(height, width) / 100))
        for rim, line in ((3 * thickness, (0, 0, 0)), (thickness, LINE)):  # visible on any image
            cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), line, rim)
    return canvas


def draw_detections(rows: Mapping[str, Sequence[Detection]], images: Sequence[Source]) -> Figure:
    """Draw score map and box of each detection: one row per entry of `rows`, one column per image.

    rows : detections by the label of the row, one for each of the images
    """
    with style():
        size = (1.75 * len(images) + 1.4, 2.0 * len(rows))
        figure, panels = plt.subplots(len(rows), len(images), figsize=size, squeeze=False)
        for line, (name, detections) in zip(panels, rows.items(), strict=True):
            for axes, image, detection in zip(line, images, detections, strict=True):
                pixels = read_image(image)
                factor = max(1, MIN_SIDE // min(pixels.shape[:2]))
                pixels = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
                if detection.score_map is not None:
                    pixels = overlay(pixels, detection.score_map, factor * detection.box)
                axes.imshow(pixels)
                axes.set(xticks=[], yticks=[])
                title = f"{display_name(detection.class_name)}, {detection.score:.2f}"
                axes.set_title(title, fontsize=8)
                axes.grid(False)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


class LocalizedFolder(NamedTuple):
    """What `localize_to_folder` did."""

    detections: list[Detection]  # without score maps
    files: tuple[Path, ...]  # the CSV and the COCO file
    skipped: list[str]  # one line for each image that could not be read
    without_box: list[str]  # images whose maps are all constant


def localize_to_folder(
    images: Sequence[str | Path],
    run: str | Path,
    out: str | Path,
    *,
    overlays: bool = False,
    skip: bool = False,
    **settings: Any,
) -> LocalizedFolder:
    """Localize images and write out/boxes.csv and out/boxes.coco.json.

    images : files, and folders of images
    run : folder of a run, or the name of a published one
    overlays : also write out/overlays/<COCO image id>-<name>.jpg with the predicted class's map
    skip : skip images that cannot be read
    settings : other keyword arguments of `wsol.inference.localize.iterate_images`

    Raises what `iterate_images` raises.
    """
    files = list(dict.fromkeys(file for item in images for file in image_files(item)))
    skipped, errors = [], "skip" if skip else "raise"
    stream = iterate_images(files, run_folder(run), errors=errors, skipped=skipped, **settings)
    detections: list[Detection] = []
    number = 0
    total = settings.get("top", 1) * len(files)
    for d in ProgressBar(stream, desc="localize", total=total, unit="box"):
        number += d.rank == 1
        if overlays and d.rank == 1:
            drawn = Image.fromarray(overlay(read_image(d.image), d.score_map, d.box))
            path = Path(out) / "overlays" / f"{number:05d}-{Path(d.image).stem}.jpg"
            with written_whole(path) as partial:
                drawn.save(partial, "JPEG", quality=90)
        detections.append(d._replace(score_map=None))  # 200 kB each
    written = Path(out) / "boxes.csv", Path(out) / "boxes.coco.json"
    for write, file in zip((to_csv, to_coco), written, strict=True):
        write(detections, file)
    boxes = pd.DataFrame([(d.image, d.box.any()) for d in detections], columns=["image", "any"])
    has_box = boxes.groupby("image", sort=False)["any"].any()
    return LocalizedFolder(detections, written, skipped, has_box.index[~has_box].tolist())
