"""Any folder of images as a data set: one folder per class, boxes in one table.

    python -m wsol.datasets.folder SOURCE OUT [--boxes CSV|JSON] [--masks DIR]
        [--background DIR ... --source TEXT --licence TEXT] [--shares W F T] [--seed N]
        [--headers-only] [--journal FILE] [--workers N]

    SOURCE/<class>/...          or    SOURCE/train/<class>/...   becomes train-weaksup
                                      SOURCE/val/<class>/...     becomes train-fullsup
                                      SOURCE/test/<class>/...    becomes test

An image is named by its path below SOURCE, in the boxes (`wsol.datasets.box_tables`) too. Its mask,
if there is one, is the same path below the folder of masks, ending in .png. SOURCE is only read;
OUT is what the notebooks' parameter `data` takes. With faults it gets faults.csv and no index.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import ExifTags, Image

from wsol.datasets.backgrounds.build import build_background_set, from_folder
from wsol.datasets.backgrounds.manifest import read_background_set
from wsol.datasets.box_tables import read_boxes
from wsol.datasets.check_options import add_check_options, check_of
from wsol.datasets.checks import (
    JOURNAL,
    DatasetError,
    ImageCheck,
    Record,
    Size,
    fit_box,
    image_sizes,
)
from wsol.datasets.files import relative
from wsol.datasets.images import SUFFIXES, pictures_below
from wsol.datasets.index import SPLITS, format_boxes, index_table
from wsol.datasets.prepare import index_or_faults, prepared_index

# Images that lie in one folder per class, below folders of splits or not.

FOLDERS = dict(zip(("train", "val", "test"), SPLITS, strict=True))


class ClassImage(NamedTuple):
    """One image and what its folders say about it."""

    image_id: str  # path below the root of the data set
    class_name: str
    split: str  # "" where the folders do not say


def _folders(folder: Path, leave: set[Path]) -> list[Path]:
    """Folders in a folder, without hidden ones and those to leave out."""
    found = sorted(path for path in folder.iterdir() if path.is_dir())
    return [p for p in found if not p.name.startswith(".") and p.resolve() not in leave]


def _class_images(
    folder: Path, root: Path, split: str, leave: set[Path], faults: list[str]
) -> list[ClassImage]:
    """Images of the class folders in a folder."""
    classes = _folders(folder, leave)
    if not classes:
        faults.append(f"{folder}: no folder of a class in it")
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            faults.append(f"{path}: image outside the folder of any class")
    images = []
    for path in classes:
        below = [picture.relative_to(root).as_posix() for picture in pictures_below(path)]
        if not below:
            faults.append(f"{path}: class without image")
        images += [ClassImage(image, path.name, split) for image in below]
    return images


def class_images_below(root: Path, leave: set[Path], faults: list[str]) -> list[ClassImage]:
    """Images of all classes, with their split where there are folders of splits."""
    folders = _folders(root, leave)
    splits = [path for path in folders if path.name in FOLDERS]
    if not splits:
        return _class_images(root, root, "", leave, faults)
    faults += [
        f"{p}: none of train, val and test, but beside them" for p in folders if p not in splits
    ]
    images = []
    for path in splits:
        images += _class_images(path, root, FOLDERS[path.name], leave, faults)
    learned = {image.class_name for image in images if image.split == SPLITS[0]}
    for name in sorted({image.class_name for image in images} - learned):
        faults.append(f"{root / 'train' / name}: class {name} has no image to learn from")
    return images


# Splits for a data set that has none: drawn class by class, the same whenever they are drawn.

SHARES = (0.7, 0.1, 0.2)  # of train-weaksup, train-fullsup and test


def check_shares(shares: Sequence[float]) -> None:
    """Raise ValueError unless these are shares of the three splits."""
    if len(shares) != 3 or min(shares) < 0 or not math.isclose(sum(shares), 1):
        raise ValueError(f"shares are {tuple(shares)}; they must be three that add up to 1")
    if shares[0] == 0:
        raise ValueError("the share of train-weaksup is 0; there must be something to learn from")


def _counts(images: int, boxed: int, shares: Sequence[float]) -> tuple[int, int]:
    """Images of one class in `train-fullsup` and `test`.

    Rounded, but at least one where the share is not 0 and the class has enough; training comes
    first, then the test, and neither of the two takes an image without a box.
    """
    fullsup, test = (
        max(1, math.floor(share * images + 0.5)) if share else 0 for share in shares[1:]
    )
    test = max(0, min(test, images - 1, boxed))
    return max(0, min(fullsup, images - 1 - test, boxed - test)), test


def draw_splits(
    classes: Mapping[str, Sequence[str]],
    boxed: set[str] | None,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> dict[str, str]:
    """The split of every image.

    classes : images of each class
    boxed : images with a box, the only ones that may leave `train-weaksup`; None for all
    shares : of `train-weaksup`, `train-fullsup` and `test`, within every class
    seed : another one draws other splits

    The draw of one class does not depend on the others. Raises ValueError for impossible shares.
    """
    check_shares(shares)
    split = {}
    for name, images in classes.items():
        rng = np.random.default_rng([seed, *name.encode()])
        candidates = [image for image in sorted(images) if boxed is None or image in boxed]
        drawn = [candidates[i] for i in rng.permutation(len(candidates))]
        fullsup, test = _counts(len(images), len(candidates), shares)
        split |= dict.fromkeys(images, SPLITS[0])
        split |= dict.fromkeys(drawn[:fullsup], SPLITS[1])
        split |= dict.fromkeys(drawn[fullsup : fullsup + test], SPLITS[2])
    return split


TURNED = (
    "the picture is stored turned (EXIF orientation), which leaves open which way up its box is "
    "meant: turn its pixels for good"
)


def _boxes(
    records: list[Record],
    images: dict[str, ClassImage],
    sizes: dict[str, Size],
    faults: list[str],
) -> dict[str, list]:
    """Boxes of every image, clipped to it."""
    boxes: dict[str, list] = defaultdict(list)
    classes = {image.class_name for image in images.values()}
    for where, key, (box, category, size) in records:
        if key not in images:
            faults.append(f"{where}: image {key} is not in the folder")
        elif category is not None and category not in classes:
            faults.append(f"{where}: category {category!r} is unknown, no class has this name")
        elif category not in (None, images[key].class_name):
            own = images[key].class_name
            faults.append(f"{where}: box of {category!r} in {key}, an image of the class {own!r}")
        elif key in sizes:
            if size not in (None, sizes[key]):
                said, has = ("{} x {}".format(*pair) for pair in (size, sizes[key]))
                faults.append(f"{where}: image {key} is said to be {said} pixels and has {has}")
            boxes[key].append(fit_box(box, sizes[key], where, faults))
    return boxes


def _sizes(
    paths: dict[str, Path], faults: list[str], check: bool | ImageCheck = True
) -> dict[str, Size]:
    """Sizes of the images that decode."""
    found = dict(zip(paths, image_sizes(list(paths.values()), check), strict=True))
    faults += [size for size in found.values() if isinstance(size, str)]
    return {image: size for image, size in found.items() if not isinstance(size, str)}


def _is_turned(path: Path) -> bool:
    with Image.open(path) as image:
        return image.getexif().get(ExifTags.Base.Orientation, 1) != 1


def _masks(
    folder: Path, sizes: dict[str, Size], faults: list[str], check: bool | ImageCheck
) -> dict[str, Path]:
    """Masks that exist below a folder, by image."""
    paths = {image: folder / Path(image).with_suffix(".png") for image in sizes}
    paths = {image: path for image, path in paths.items() if path.is_file()}
    if not paths:
        faults.append(f"{folder}: no mask of any image in it")
    for image, size in _sizes(paths, faults, check).items():
        if size != sizes[image]:
            said, has = ("{} x {}".format(*pair) for pair in (size, sizes[image]))
            faults.append(f"{paths[image]}: mask of {said} pixels for an image of {has}")
    return paths


def read_folder(
    root: str | Path,
    boxes: str | Path | None = None,
    masks: str | Path | None = None,
    *,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    leave: Sequence[str | Path] = (),
    check_images: bool | ImageCheck = True,
) -> pd.DataFrame:
    """Index table (`wsol.datasets.index`) of an image folder; its paths start from `root`.

    Parameters
    ----------
    root : folder of one folder per class, or of train/, val/ and test/ with such folders
    boxes : table of boxes, CSV or COCO's JSON
    masks : folder of object masks
    shares, seed : how the splits are drawn where no folders say them, see `draw_splits`
    leave : folders below root that are no classes; that of the masks is left in any case
    check_images : decode every image and mask, or only their headers if False; an `ImageCheck` can
        remember what it found

    Labels follow the names of the classes. With a table of boxes, every image of `train-fullsup`
    and `test` must have one. Raises DatasetError with all faults, each with
    its file and, in a table, the line.
    """
    root, faults = Path(root), []
    if not root.is_dir():
        raise DatasetError([f"{root}: missing folder"])
    left = {Path(path).resolve() for path in (*leave, *([masks] if masks else []))}
    images = {image.image_id: image for image in class_images_below(root, left, faults)}
    sizes = _sizes({image: root / image for image in images}, faults, check_images)
    records = [] if boxes is None else read_boxes(Path(boxes), faults)
    found = _boxes(records, images, sizes, faults)
    faults += [f"{root / image}: {TURNED}" for image in found if _is_turned(root / image)]
    masked = {} if masks is None else _masks(Path(masks), sizes, faults, check_images)
    images = _with_splits(images, None if boxes is None else set(found), shares, seed)
    if boxes is not None and not faults:
        for image in images.values():
            if image.split != SPLITS[0] and image.image_id not in found:
                faults.append(f"{root / image.image_id}: image of {image.split} without box")
    if faults:
        raise DatasetError(faults)
    labels = {n: i for i, n in enumerate(sorted({image.class_name for image in images.values()}))}
    return index_table(
        [
            dict(image_id=image.image_id, path=image.image_id, split=image.split)
            | dict(label=labels[image.class_name], class_name=image.class_name)
            | dict(width=sizes[image.image_id][0], height=sizes[image.image_id][1])
            | dict(boxes=format_boxes(found.get(image.image_id, [])))
            | dict(mask=relative(masked[image.image_id], root) if image.image_id in masked else "")
            for image in images.values()
        ]
    )


def _with_splits(
    images: dict[str, ClassImage], boxed: set[str] | None, shares: Sequence[float], seed: int
) -> dict[str, ClassImage]:
    """The images, with a split drawn where the folders do not say it."""
    classes: dict[str, list[str]] = defaultdict(list)
    for image in images.values():
        if not image.split:
            classes[image.class_name].append(image.image_id)
    drawn = draw_splits(classes, boxed, shares, seed)
    return {key: image._replace(split=drawn.get(key, image.split)) for key, image in images.items()}


def copy_background(folders: Sequence[Path], out: Path, source: str, licence: str) -> int:
    """Copy the pictures of folders to out/background with a manifest; return their number.

    Of pictures that are copies of each other the first is kept, see
    `wsol.datasets.backgrounds.build`. Raises FileExistsError if there is a set already, DatasetError
    if a picture does not decode.
    """
    numbered = [from_folder(one, source, licence, f"{n}") for n, one in enumerate(folders)]
    target = out / "background"
    build_background_set([one for some in numbered for one in some], target)
    return len(read_background_set(target))


def _read_given(given: argparse.Namespace) -> pd.DataFrame:
    """The index table of what the arguments name."""
    check = check_of(given)
    return read_folder(
        given.source_folder,
        given.boxes,
        given.masks,
        shares=given.shares,
        seed=given.seed,
        leave=[given.out, *given.background],
        check_images=check if check.journal else replace(check, journal=given.out / JOURNAL),
    )


def main(words: Sequence[str] | None = None) -> int:
    """Index an image folder and copy its background set, if one is given."""
    parser = argparse.ArgumentParser(
        prog="python -m wsol.datasets.folder", description="Index any folder of images."
    )
    parser.add_argument("source_folder", metavar="SOURCE", type=Path, help="folder of the images")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the index table")
    parser.add_argument("--boxes", type=Path, help="image,x0,y0,x1,y1 as CSV, or COCO's JSON")
    parser.add_argument("--masks", type=Path, help="folder of object masks")
    parser.add_argument("--background", type=Path, nargs="+", default=[], help="folders to copy")
    parser.add_argument("--source", help="where the background pictures are from")
    parser.add_argument("--licence", help="what they may be used under")
    parser.add_argument("--shares", type=float, nargs=3, default=SHARES, help="of drawn splits")
    parser.add_argument("--seed", type=int, default=0, help="of drawn splits")
    add_check_options(parser)
    given = parser.parse_args(words)
    if given.background and not (given.source and given.licence):
        parser.error("--background needs --source and --licence")
    try:
        index_or_faults(lambda: _read_given(given), given.source_folder, given.out)
        index = prepared_index(given.out)
        for split in SPLITS:
            print(f"{split}: {(index['split'] == split).sum()} images")
        if given.background:
            copied = copy_background(given.background, given.out, given.source, given.licence)
            print(f"background: {copied} images")
    except DatasetError as error:
        print(error.summary(), file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:  # of what was given, and they say what is wrong
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
