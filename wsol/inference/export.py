"""Detections as CSV, as COCO JSON and drawn into images."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from wsol.datasets.files import (
    check_ours,
    check_replaceable,
    check_writable,
    is_made,
    is_unchanged,
    write_table,
    write_text,
    written_folder,
)
from wsol.datasets.progress import ProgressBar
from wsol.inference.localize import Detection, Source, image_files, iterate_images, read_image
from wsol.inference.settings import display_name
from wsol.report.style import style

COLUMNS = (*Detection._fields[:7], "x0", "y0", "x1", "y1")
DIGITS = 2  # of a pixel, in files
INFO = {"info": {"description": "boxes of wsol"}}  # begins the COCO file
LINE = (0, 158, 115)  # the palette's green (Okabe and Ito 2008), which magma does not have
OPACITY = 0.6  # of the colour where the score is 1
MAX_SIDE = 4096  # pixels of the longer side of an overlay
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


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def _name_below(image: str, root: Path | None) -> str:
    below = root is not None and Path(image).is_relative_to(root)
    return (Path(image).relative_to(root) if below else Path(image)).as_posix()


def to_coco(
    detections: Iterable[Detection], path: str | Path, root: str | Path | None = None
) -> None:
    """Write detections in COCO's JSON format, which `wsol.datasets.folder` and pycocotools read.

    root : folder that the file names start from, for images below it

    All ids start at 1, a category's is its label + 1; the categories are the classes that occur.
    Beside COCO's own keys an annotation has its score; its segmentation is the box, as that of
    results in pycocotools. An image without a box has no annotation.
    """
    root = None if root is None else Path(root)
    images: dict[str, dict[str, object]] = {}
    annotations: list[dict[str, object]] = []
    names: dict[int, str] = {}
    for d in detections:
        about = dict(file_name=_name_below(d.image, root), width=int(d.width), height=int(d.height))
        image = images.setdefault(d.image, {"id": len(images) + 1} | about)
        names[d.label] = d.class_name
        if not d.has_box:
            continue
        x0, y0, x1, y1 = _corners(d)
        width, height = round(x1 - x0, DIGITS), round(y1 - y0, DIGITS)
        ids = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": d.label + 1}
        box = {"bbox": [x0, y0, width, height], "area": round(width * height, DIGITS)}
        box["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
        annotations.append(ids | box | {"iscrowd": 0, "score": round(d.score, 6)})
    categories = [{"id": label + 1, "name": names[label]} for label in sorted(names)]
    content = INFO | {"licenses": []}  # pycocotools needs info
    content |= {"images": [*images.values()], "annotations": annotations, "categories": categories}
    write_text(path, _json(content) + "\n")


def to_yolo(
    detections: Iterable[Detection], folder: str | Path, root: str | Path | None = None
) -> None:
    """Write detections as YOLO does: <image>.txt with lines "class cx cy w h", and classes.txt.

    folder : becomes the folder of the texts, each where its image is below `root`; an earlier one
        that this function made is replaced, unless somebody has changed a file in it
    root : folder that the paths of the texts start from; an image elsewhere has its name alone

    Centre and size are relative to the image, 0 to 1; the class is the label, from 0. An image
    without a box has an empty text. Line i of classes.txt, from 0, has the name of class i, or i if
    it does not occur. Raises ValueError, before anything changes, if two images would get the same
    text, FileExistsError if the folder was not made here or was changed.
    """
    classes: list[str] = []
    texts: dict[Path, tuple[str, list[str]]] = {Path("classes.txt"): ("the classes", classes)}
    names: dict[int, str] = {}
    for d in detections:
        name = Path(_name_below(d.image, Path(root) if root else None))
        name = Path(name.name) if name.is_absolute() or ".." in name.parts or not root else name
        image, lines = texts.setdefault(name.with_suffix(".txt"), (d.image, []))
        if image != d.image:
            raise ValueError(f"{image} and {d.image} would both get {name.with_suffix('.txt')}")
        names[d.label] = d.class_name
        if d.has_box:
            x0, y0, x1, y1 = np.asarray(d.box, np.float64) / np.tile([d.width, d.height], 2)
            numbers = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
            lines.append(" ".join([str(d.label), *(f"{value:.6f}" for value in numbers)]))
    classes += [names.get(label, str(label)) for label in range(max(names, default=-1) + 1)]
    with written_folder(folder, is_unchanged, marked=True) as new:
        for path, (_, lines) in texts.items():
            write_text(new / path, "".join(f"{line}\n" for line in lines))


def overlay(
    image: NDArray[np.uint8], score_map: NDArray[np.floating], box: ArrayLike
) -> NDArray[np.uint8]:
    """Draw a score map as colour over a copy of an image (H, W, 3), and its box.

    The copy of an image of more than `MAX_SIDE` pixels a side is reduced to that.

    score_map : (h, w) in [0, 1], stretched over the image, transparent where it is 0
    box : x0, y0, x1, y1 in pixels of the image; of zero size or NaN, none is drawn
    """
    factor = min(1.0, MAX_SIDE / max(image.shape[:2]))
    if factor < 1:
        size = [max(1, round(factor * side)) for side in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    height, width = image.shape[:2]
    score = cv2.resize(np.float32(score_map), (width, height), interpolation=cv2.INTER_LINEAR)
    levels = np.round(255 * score.clip(0, 1)).astype(np.uint8)
    colour = cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA)[..., ::-1]  # from BGR
    opacity = OPACITY * levels[..., None] / 255
    mixed = np.round((1 - opacity) * image + opacity * colour)
    canvas = np.ascontiguousarray(mixed, np.uint8)  # as OpenCV needs it
    x0, y0, x1, y1 = np.round(factor * np.nan_to_num(box)).astype(int).tolist()
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
    files: tuple[Path, ...]  # the CSV and the COCO file, and the folder of YOLO's texts
    skipped: list[str]  # one line for each image that could not be read, or folder of overlays
    without_box: list[str]  # images whose maps are all constant


def _files_below(item: str | Path, skipped: list[str]) -> list[Path]:
    """The images of a file or folder without the overlays that an earlier call drew below it."""
    others: Counter[str] = Counter()
    files = image_files(item, others)
    skipped += [f"{item}: {count} {reason}" for reason, count in (+others).items()]
    folders = {file.parent for file in files} - {Path(item), Path(item).parent}
    drawn = {folder for folder in folders if is_made(folder)}
    kept = [file for file in files if file.parent not in drawn]
    skipped += [f"{folder}: overlays that wsol drew" for folder in sorted(drawn)]
    if not kept:
        raise ValueError(f"no image below {item} but overlays that wsol drew")
    return kept


def localize_to_folder(
    images: Sequence[str | Path],
    run: str | Path,
    out: str | Path,
    *,
    overlays: bool = False,
    yolo: bool = False,
    skip: bool = False,
    **settings: Any,
) -> LocalizedFolder:
    """Localize images and write out/boxes.csv and out/boxes.coco.json.

    images : files, and folders of images
    run : folder of a run, or the name of a published one
    overlays : also write out/overlays/<COCO image id>-<name>.jpg with the predicted class's map
    yolo : also write out/labels, see `to_yolo`
    skip : skip images that cannot be read
    settings : other keyword arguments of `wsol.inference.localize.iterate_images`

    Overlays of an earlier call are replaced when all are drawn, and are not localized where `out`
    is below a folder of images. In COCO's file names start from the folder, if `images` is one.

    Raises what `iterate_images` raises; OSError at once if `out` cannot be written, or holds files
    of these names that were not made here, or changed overlays or texts.
    """
    out = Path(out)
    written = [out / "boxes.csv", out / "boxes.coco.json"] + [out / "labels"] * yolo
    check_writable(*written[:2])
    check_ours(written[0], ",".join(COLUMNS))
    check_ours(written[1], _json(INFO).removesuffix("\n}"))
    if yolo:
        check_replaceable(out / "labels", is_unchanged)
    skipped: list[str] = []
    found = (file for item in images for file in _files_below(item, skipped))
    files = list(dict.fromkeys(found))
    settings |= {"errors": "skip" if skip else "raise", "skipped": skipped}
    stream = iterate_images(files, run, **settings)
    detections: list[Detection] = []
    number = 0
    total = settings.get("top", 1) * len(files)
    target = written_folder(out / "overlays", is_unchanged, marked=True)
    with target if overlays else nullcontext(out) as folder:
        for d in ProgressBar(stream, desc="localize", total=total, unit="box"):
            number += d.rank == 1
            if overlays and d.rank == 1:
                drawn = Image.fromarray(overlay(read_image(d.image), d.score_map, d.box))
                stem = os.fsencode(Path(d.image).stem)[:200].decode("utf-8", "ignore")  # of 255
                drawn.save(folder / f"{number:05d}-{stem}.jpg", "JPEG", quality=90)
            detections.append(d._replace(score_map=None))  # 200 kB each
    root = Path(images[0]) if len(images) == 1 and Path(images[0]).is_dir() else None
    writers = (to_csv, partial(to_coco, root=root), partial(to_yolo, root=root))
    failed: list[OSError] = []
    for write, file in zip(writers, written, strict=False):
        try:
            write(detections, file)
        except OSError as error:  # the others may still be written
            failed.append(error)
    if failed:
        raise failed[0]
    boxes = pd.DataFrame([(d.image, d.has_box) for d in detections], columns=["image", "any"])
    has_box = boxes.groupby("image", sort=False)["any"].any()
    return LocalizedFolder(detections, tuple(written), skipped, has_box.index[~has_box].tolist())
