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
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from PIL import ExifTags, Image

from wsol.datasets.background_build import build_background_set, from_folder
from wsol.datasets.backgrounds import read_background_set
from wsol.datasets.box_tables import read_boxes
from wsol.datasets.check_options import add_check_options, check_of
from wsol.datasets.class_folders import ClassImage, class_images_below
from wsol.datasets.faults import DatasetError, Record, Size, fit_box
from wsol.datasets.image_check import JOURNAL, ImageCheck, image_sizes
from wsol.datasets.index import SPLITS, format_boxes, index_table
from wsol.datasets.outcome import index_or_faults, prepared_index
from wsol.datasets.pictures import relative
from wsol.datasets.splits import SHARES, draw_splits

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
    `wsol.datasets.background_build`. Raises FileExistsError if there is a set already, DatasetError
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
