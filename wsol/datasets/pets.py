"""Reader of the Oxford-IIIT Pet data set (Parkhi et al., CVPR 2012): 37 breeds, a trimap per image.

Below the root, as torchvision.datasets.OxfordIIITPet downloads it:

    oxford-iiit-pet/annotations/trainval.txt, test.txt   name, breed from 1, species, number
    oxford-iiit-pet/annotations/trimaps/<name>.png       1 animal, 2 background, 3 border
    oxford-iiit-pet/images/<name>.jpg

The images of trainval.txt become `train-weaksup`, except for the last ones of each breed, which are
`train-fullsup`. Masks are written as PNG: 255 for the animal. The border, where the authors do not
say what a pixel is, is the mask of ignored pixels, which PxAP and pixel IoU leave out. The box
encloses animal and border, because the outline of the animal lies inside of the border.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from wsol.datasets.checks import (
    DatasetError,
    ImageCheck,
    image_sizes,
    raise_errors,
    read_lines,
    report,
)
from wsol.datasets.files import relative, written_whole
from wsol.datasets.image_files import decoded
from wsol.datasets.index import TEST, TRAIN_WEAKSUP, format_boxes, fullsup_of_training, index_table

FOLDER = "oxford-iiit-pet"
ANIMAL, BACKGROUND, BORDER = 1, 2, 3  # values of a trimap
FULLSUP_COUNT = 5
LISTS = {"trainval.txt": TRAIN_WEAKSUP, "test.txt": TEST}
LINE = r"(?P<name>\S+)\s+(?P<breed>\d+)\s+[12]\s+\d+"


def download_pets(root: str | Path) -> None:
    """Download and unpack the two archives, 800 MB, by torchvision, which checks their MD5."""
    from torchvision.datasets import OxfordIIITPet

    OxfordIIITPet(str(root), download=True)


def read_pets(
    root: str | Path,
    masks: str | Path,
    check_images: bool | ImageCheck = True,
    *,
    classes: Sequence[str] = (),
    fullsup_count: int = FULLSUP_COUNT,
) -> tuple[pd.DataFrame, list[str]]:
    """Index table of the data set, paths from its root, and what was left out and why.

    Parameters
    ----------
    root : folder with oxford-iiit-pet/ in it
    masks : folder for the masks, which are written anew
    check_images : decode every image, or only read the headers if False
    classes : names of the breeds to read ("Abyssinian"), by default all
    fullsup_count : training images of each breed that become `train-fullsup`

    The kind of an image file is that of its content, whatever its name. Left out are images that do
    not decode, as a few of the authors' do, and the 14 whose trimap is all background. Raises
    DatasetError if files are missing, or if a trimap has other values or another size than its
    image.
    """
    root, errors = Path(root), []
    annotations = root / FOLDER / "annotations"
    if not annotations.is_dir():
        raise DatasetError(
            [f"{annotations}: no data set here. wsol prepare pets --download gets it"]
        )
    tables = []
    for name, split in LISTS.items():
        table = read_lines(annotations / name, LINE, "<name> <breed> <1 or 2> <number>", errors)
        tables.append(table.assign(split=split))
    raise_errors(errors)
    rows = pd.concat(tables, ignore_index=True)
    rows = rows.assign(
        class_name=rows["name"].str.rsplit("_", n=1).str[0], breed=rows["breed"].astype(int)
    )
    unknown = sorted({*classes} - {*rows["class_name"]})
    raise_errors([f"{annotations}: there is no breed {name}" for name in unknown])
    rows = rows[rows["class_name"].isin(classes)] if classes else rows
    rows = rows.assign(
        label=rows["breed"].rank(method="dense").astype(int) - 1,
        path=[f"{FOLDER}/images/{name}.jpg" for name in rows["name"]],
        image_id=[f"{name}.jpg" for name in rows["name"]],
    )
    sizes = image_sizes([root / path for path in rows["path"]], check_images)
    bad = [size for size in sizes if isinstance(size, str)]
    kept = [not isinstance(size, str) for size in sizes]
    rows = rows[kept].reset_index(drop=True)
    rows[["width", "height"]] = [size for size in sizes if not isinstance(size, str)]
    written = [_write_masks(annotations / "trimaps", row, Path(masks)) for row in rows.itertuples()]
    for column, values in zip(("boxes", "error"), zip(*written, strict=True), strict=True):
        rows[column] = list(values)
    report(rows[rows["error"] != ""], "{error}", errors)
    raise_errors(errors)
    empty = rows["boxes"] == ""
    bad += [f"{path}: the trimap is all background" for path in rows.loc[empty, "path"]]
    rows = rows[~empty].reset_index(drop=True)
    for column, folder in (("mask", "animal"), ("ignore", "border")):
        below = relative(Path(masks) / folder, root)
        rows[column] = [f"{below}/{name}.png" for name in rows["name"]]
    return index_table(fullsup_of_training(rows, fullsup_count)), bad


def _write_masks(trimaps: Path, row: Any, masks: Path) -> tuple[str, str]:
    """Box of an image, as the index table has it, and an error or ""; both masks are written."""
    path = trimaps / f"{row.name}.png"
    try:
        with decoded(path) as image:
            trimap = np.asarray(image)
    except ValueError as error:
        return "", str(error)
    if trimap.shape != (row.height, row.width):
        return "", f"trimap has the shape {trimap.shape}, the image {(row.height, row.width)}"
    if not np.isin(trimap, (ANIMAL, BACKGROUND, BORDER)).all():
        return "", f"trimap has values other than 1, 2 and 3: {np.unique(trimap).tolist()}"
    for value, folder in ((ANIMAL, "animal"), (BORDER, "border")):
        with written_whole(masks / folder / f"{row.name}.png") as partial:
            Image.fromarray(np.uint8(255) * (trimap == value)).save(partial, "PNG")
    y, x = np.nonzero(trimap != BACKGROUND)
    if not len(y):
        return "", ""
    return format_boxes([(x.min(), y.min(), x.max() + 1, y.max() + 1)]), ""
