"""Miniatures of real data sets, of drawn birds, in the formats and the archives of their authors.

With them the notebooks that prepare CUB-200-2011, ILSVRC, OpenImages30k and folders of pictures run
offline in seconds. Each function writes below one folder and says what it leaves there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from wsol.datasets.author_formats import (
    mask_name,
    pack_cub,
    pack_ilsvrc,
    put,
    voc_annotation,
    write_checksums,
    write_openimages_lists,
)
from wsol.datasets.birds import BirdsConfig, draw_birds
from wsol.datasets.cub import read_cub
from wsol.datasets.faults import Box
from wsol.datasets.ilsvrc import ANNOTATIONS, IMAGES, MAPPING
from wsol.datasets.index import parse_boxes

CONFIG = BirdsConfig(n_train=32, n_fullsup=16, n_test=24, n_background=8)
QUALITY = 92  # of JPEGs
TRAIN, FULLSUP, TEST = "train-weaksup", "train-fullsup", "test"


@contextmanager
def _drawn() -> Iterator[Path]:
    """A folder of drawn birds, in the layout of CUB-200-2011."""
    with TemporaryDirectory() as folder:
        draw_birds(Path(folder), CONFIG, workers=1)
        yield Path(folder)


class _Shown(NamedTuple):
    """A picture (H, W, 3) uint8, the boxes of its birds in pixels, their masks (H, W) if known."""

    pixels: NDArray[np.uint8]
    boxes: list[Box]
    masks: list[NDArray[np.uint8]]


def _read(birds: Path, row: pd.Series, twice: bool) -> _Shown:
    """One drawn picture; `twice`: with its mirror image beside it, so that it has two birds."""
    with Image.open(birds / row.path) as image:
        pixels = np.asarray(image)
    masks = []
    if row.mask:
        with Image.open(birds / row.mask) as image:
            masks = [np.asarray(image)]
    (x0, y0, x1, y1), width = parse_boxes(row.boxes)[0].astype(int).tolist(), row.width
    if not twice:
        return _Shown(pixels, [(x0, y0, x1, y1)], masks)
    mirrored = (2 * width - x1, y0, 2 * width - x0, y1)
    empty = [np.zeros_like(mask) for mask in masks]
    left = [np.hstack(pair) for pair in zip(masks, empty, strict=True)]
    right = [np.hstack([none, mask[:, ::-1]]) for mask, none in zip(masks, empty, strict=True)]
    both = np.hstack([pixels, pixels[:, ::-1]])
    return _Shown(both, [(x0, y0, x1, y1), mirrored], left + right)


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "PNG" if path.suffix == ".png" else "JPEG"
    Image.fromarray(pixels).save(path, kind, **({} if kind == "PNG" else {"quality": QUALITY}))


def _write_lists(folder: Path, rows: list[tuple[str, int, _Shown]]) -> None:
    """The four text files of a `train-fullsup`: image id, label and what is shown."""
    lines: dict[str, list[str]] = {
        name: [] for name in ("image_ids", "class_labels", "image_sizes", "localization")
    }
    for image, label, shown in rows:
        height, width, _ = shown.pixels.shape
        lines["image_ids"].append(image)
        lines["class_labels"].append(f"{image},{label}")
        lines["image_sizes"].append(f"{image},{width},{height}")
        lines["localization"] += [f"{image}," + ",".join(map(str, box)) for box in shown.boxes]
    for name, content in lines.items():
        put(folder / f"{name}.txt", "\n".join(content))


def make_cub(folder: Path) -> None:
    """archives/ with the two archives and MD5SUMS, and CUBV2/, metadata and images."""
    with _drawn() as birds:
        write_checksums(pack_cub(birds, folder / "archives"))
        for path in sorted((birds / "fullsup").rglob("*")):
            if path.is_file():
                put(folder / "CUBV2" / path.relative_to(birds / "fullsup"), path.read_bytes())


def make_ilsvrc(folder: Path) -> None:
    """archives/ with the three archives and MD5SUMS, names of the classes, and ImageNetV2/.

    The classes have WordNet ids of their own, n00000001 and so on.
    """
    with _drawn() as birds, TemporaryDirectory() as unpacked:
        index, tree = read_cub(birds, birds / "fullsup"), Path(unpacked)
        fullsup, names = [], {}
        for number, row in enumerate(index.itertuples()):
            wnid, twice = f"n{row.label + 1:08d}", number % 3 == 0 and row.split != TRAIN
            shown, names[wnid] = _read(birds, row, twice), row.class_name[4:].replace("_", " ")
            if row.split == TRAIN:
                _save(shown.pixels, tree / IMAGES / "train" / wnid / f"{wnid}_{number}.JPEG")
            elif row.split == TEST:
                stem = f"ILSVRC2012_val_{number:08d}"
                _save(shown.pixels, tree / IMAGES / "val" / f"{stem}.JPEG")
                text = voc_annotation(wnid, shown.boxes, stem)
                put(tree / ANNOTATIONS / "val" / f"{stem}.xml", text)
            else:
                image = f"val2/{row.label}/{number}.jpeg"
                _save(shown.pixels, folder / "ImageNetV2" / "images" / image)
                fullsup.append((image, row.label, shown))
        write_checksums(pack_ilsvrc(tree, folder / "archives"))
    _write_lists(folder / "ImageNetV2", fullsup)
    lines = [f"{wnid} {name}" for wnid, name in sorted(names.items())]
    put(folder / "ILSVRC2012" / MAPPING, "\n".join(lines))


def make_openimages(folder: Path) -> None:
    """OpenImages/, with pictures, masks twice as large as they, and metadata/."""
    root, labels, objects = folder / "OpenImages", {}, {}
    with _drawn() as birds:
        index = read_cub(birds)
        for number, row in enumerate(index.itertuples()):
            split = "train" if row.split == TRAIN else ("val", "test")[len(objects) % 2]
            image = f"{split}/0b{row.label:02d}/{number:016x}"
            shown = _read(birds, row, twice=number % 3 == 0 and split != "train")
            _save(shown.pixels, root / f"{image}.jpg")
            labels[image] = row.label
            if split == "train":
                continue
            objects[image] = len(shown.masks)
            masks = [mask.repeat(2, axis=0).repeat(2, axis=1) for mask in shown.masks]
            for i, mask in enumerate(masks):
                _save(mask, root / mask_name(image, i))
            ignored = np.zeros_like(masks[0])
            ignored[:, :20] = 255  # a strip along the left
            _save(ignored, root / f"{image}_ignore.png")
    write_openimages_lists(root / "metadata", labels, objects)


def make_folder(folder: Path) -> None:
    """pictures/<class>/, boxes.csv, masks/<class>/, and background/, pictures without a bird."""
    with _drawn() as birds:
        index = read_cub(birds)
        lines = ["image,x0,y0,x1,y1"]
        for row in index[index["label"] < 4].itertuples():
            for source, target in ((row.path, "pictures"), (row.mask, "masks")):
                below = Path(*Path(source).parts[1:])
                put(folder / target / below, (birds / source).read_bytes())
            lines.append(f"{row.image_id},{row.boxes.replace(' ', ',')}")
        put(folder / "boxes.csv", "\n".join(lines) + "\n")
        for path in sorted((birds / "background").glob("*.jpg")):
            put(folder / "background" / path.name, path.read_bytes())
