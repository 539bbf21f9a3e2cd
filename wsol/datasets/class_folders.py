"""Images that lie in one folder per class, below folders of splits or not."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from wsol.datasets.backgrounds import SUFFIXES
from wsol.datasets.index import SPLITS

FOLDERS = dict(zip(("train", "val", "test"), SPLITS, strict=True))


class ClassImage(NamedTuple):
    """One image and what its folders say about it."""

    image_id: str  # path below the root of the data set
    class_name: str
    split: str  # "" where the folders do not say


def pictures_below(folder: Path) -> list[Path]:
    """Files with the suffix of a picture, sorted."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)


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
