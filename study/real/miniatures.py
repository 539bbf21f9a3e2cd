"""Miniatures of real data sets, of drawn birds, in the formats and the archives of their authors.

With them the notebooks that prepare CUB-200-2011, ILSVRC, OpenImages30k and folders of images run
offline in seconds. Each function writes below one folder and says what it leaves there.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from wsol.datasets.archives import BOXES, CUB, MASKS, VAL
from wsol.datasets.archives import TRAIN as TRAIN_ARCHIVE
from wsol.datasets.birds import BirdsConfig, draw_birds
from wsol.datasets.birds.dataset import write_metadata
from wsol.datasets.checks import Box
from wsol.datasets.cub import read_cub
from wsol.datasets.ilsvrc import ANNOTATIONS, IMAGES, MAPPING
from wsol.datasets.index import TEST, TRAIN_WEAKSUP, parse_boxes

CHECKSUMS = "MD5SUMS"


def put(path: Path, content: bytes | str) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def tar_bytes(members: Iterable[tuple[str, bytes] | tarfile.TarInfo]) -> bytes:
    """A tar of files, or of members that have no content; the same members give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def tgz_bytes(members: Iterable[tuple[str, bytes] | tarfile.TarInfo]) -> bytes:
    """The same, compressed."""
    return gzip.compress(tar_bytes(members), mtime=0)


def _files(folder: Path, prefix: str = "") -> list[tuple[str, bytes]]:
    """Name and content of all files below a folder, in the order of their names."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(prefix + p.relative_to(folder).as_posix(), p.read_bytes()) for p in paths]


def pack_cub(root: Path, folder: Path) -> Path:
    """The two archives of CUB-200-2011 from a folder in its layout; returns their folder."""
    tables = [(f"CUB_200_2011/{p.name}", p.read_bytes()) for p in sorted(root.glob("*.txt"))]
    images = _files(root / "images", "CUB_200_2011/images/")
    put(folder / CUB, tgz_bytes([("attributes.txt", b"1 none\n"), *tables, *images]))
    put(folder / MASKS, tgz_bytes(_files(root / "segmentations", "segmentations/")))
    return folder


def pack_ilsvrc(root: Path, folder: Path) -> Path:
    """The archives of 2012 from a tree: a tar of tars, a flat tar, a compressed one."""
    classes = sorted((root / IMAGES / "train").iterdir())
    put(folder / TRAIN_ARCHIVE, tar_bytes((f"{c.name}.tar", tar_bytes(_files(c))) for c in classes))
    put(folder / VAL, tar_bytes(_files(root / IMAGES / "val")))
    put(folder / BOXES, tgz_bytes(_files(root / ANNOTATIONS / "val", "val/")))
    return folder


def write_checksums(folder: Path) -> Path:
    """Write the MD5s of the files in a folder as md5sum does, and return the path."""
    digests = {
        name: hashlib.md5(content, usedforsecurity=False).hexdigest()
        for name, content in _files(folder)
        if name != CHECKSUMS
    }
    put(folder / CHECKSUMS, "".join(f"{md5}  {name}\n" for name, md5 in digests.items()))
    return folder / CHECKSUMS


def voc_annotation(name: str, boxes: Sequence[Sequence], image: str = "x") -> str:
    """An annotation as ILSVRC's are written, tabs and all; its size is not that of the image."""
    objects = "".join(
        f"\t<object>\n\t\t<name>{name}</name>\n\t\t<bndbox>\n\t\t\t<xmin>{x0}</xmin>\n"
        f"\t\t\t<ymin>{y0}</ymin>\n\t\t\t<xmax>{x1}</xmax>\n\t\t\t<ymax>{y1}</ymax>\n"
        "\t\t</bndbox>\n\t</object>\n"
        for x0, y0, x1, y1 in boxes
    )
    return (
        f"<annotation>\n\t<filename>{image}</filename>\n\t<size>\n\t\t<width>500</width>\n"
        f"\t\t<height>375</height>\n\t</size>\n{objects}</annotation>\n"
    )


def mask_name(image: str, number: int) -> str:
    """The file of an object's mask in OpenImages30k; `image` has no suffix."""
    return f"{image}_m{image.split('/')[1]}_{number:08x}.png"


def write_openimages_lists(
    metadata: Path, labels: Mapping[str, int], objects: Mapping[str, int]
) -> None:
    """Write the text files of the three splits of OpenImages30k.

    labels : class number by image, <split>/<class>/<image> without suffix
    objects : number of masks by image, of those that have any

    As in the authors' files the last lines lack their newline.
    """
    for split in ("train", "val", "test"):
        images = [image for image in labels if image.startswith(f"{split}/")]
        put(metadata / split / "image_ids.txt", "\n".join(f"{image}.jpg" for image in images))
        lines = [f"{image}.jpg,{labels[image]}" for image in images]
        put(metadata / split / "class_labels.txt", "\n".join(lines))
        lines = [
            f"{image}.jpg,{mask_name(image, i)},{'' if i else image + '_ignore.png'}"
            for image in images
            for i in range(objects.get(image, 0))
        ]
        if lines:
            put(metadata / split / "localization.txt", "\n".join(lines))


CONFIG = BirdsConfig(n_train=32, n_fullsup=16, n_test=24, n_background=8)


@contextmanager
def _drawn() -> Iterator[Path]:
    """A folder of drawn birds, in the layout of CUB-200-2011."""
    with TemporaryDirectory() as folder:
        draw_birds(Path(folder), CONFIG, workers=1)
        yield Path(folder)


class _Shown(NamedTuple):
    """An image (H, W, 3) uint8, the boxes of its birds in pixels, their masks (H, W) if known."""

    pixels: NDArray[np.uint8]
    boxes: list[Box]
    masks: list[NDArray[np.uint8]]


def _read(birds: Path, row: pd.Series, twice: bool) -> _Shown:
    """One drawn image; `twice`: with its mirror image beside it, so that it has two birds."""
    pixels, *masks = (np.asarray(Image.open(birds / p)) for p in (row.path, row.mask) if p)
    (x0, y0, x1, y1), width = parse_boxes(row.boxes)[0].astype(int).tolist(), row.width
    if not twice:
        return _Shown(pixels, [(x0, y0, x1, y1)], masks)
    masks = [np.hstack([mask, np.zeros_like(mask)]) for mask in masks]
    masks += [mask[:, ::-1] for mask in masks]
    boxes = [(x0, y0, x1, y1), (2 * width - x1, y0, 2 * width - x0, y1)]
    return _Shown(np.hstack([pixels, pixels[:, ::-1]]), boxes, masks)


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=92)  # PNG ignores the quality


def make_cub(folder: Path) -> None:
    """archives/ with the two archives and MD5SUMS, and CUBV2/, metadata and images."""
    with _drawn() as birds:
        write_checksums(pack_cub(birds, folder / "archives"))
        shutil.copytree(birds / "fullsup", folder / "CUBV2", dirs_exist_ok=True)


def make_ilsvrc(folder: Path) -> None:
    """archives/ with the three archives and MD5SUMS, names of the classes, and ImageNetV2/.

    The classes have WordNet ids of their own, n00000001 and so on.
    """
    with _drawn() as birds, TemporaryDirectory() as unpacked:
        index, tree = read_cub(birds, birds / "fullsup"), Path(unpacked)
        fullsup, names = [], {}
        for number, row in enumerate(index.itertuples()):
            wnid, twice = f"n{row.label + 1:08d}", number % 3 == 0 and row.split != TRAIN_WEAKSUP
            shown, names[wnid] = _read(birds, row, twice), row.class_name[4:].replace("_", " ")
            if row.split == TRAIN_WEAKSUP:
                _save(shown.pixels, tree / IMAGES / "train" / wnid / f"{wnid}_{number}.JPEG")
            elif row.split == TEST:
                stem = f"ILSVRC2012_val_{number:08d}"
                _save(shown.pixels, tree / IMAGES / "val" / f"{stem}.JPEG")
                text = voc_annotation(wnid, shown.boxes, stem)
                put(tree / ANNOTATIONS / "val" / f"{stem}.xml", text)
            else:
                image = f"val2/{row.label}/{number}.jpeg"
                _save(shown.pixels, folder / "ImageNetV2" / "images" / image)
                fullsup.append((image, row.label, shown.pixels.shape[1::-1], shown.boxes))
        write_checksums(pack_ilsvrc(tree, folder / "archives"))
    write_metadata(folder / "ImageNetV2", fullsup)
    lines = [f"{wnid} {name}" for wnid, name in sorted(names.items())]
    put(folder / "ILSVRC2012" / MAPPING, "\n".join(lines))


def make_openimages(folder: Path) -> None:
    """OpenImages/, with images, masks of twice their size, and metadata/."""
    root, labels, objects = folder / "OpenImages", {}, {}
    with _drawn() as birds:
        for number, row in enumerate(read_cub(birds).itertuples()):
            split = "train" if row.split == TRAIN_WEAKSUP else ("val", "test")[len(objects) % 2]
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
    """pictures/<class>/, boxes.csv, masks/<class>/, and background/, images without a bird."""
    with _drawn() as birds:
        index, lines = read_cub(birds), ["image,x0,y0,x1,y1"]
        for row in index[index["label"] < 4].itertuples():
            for source, target in ((row.path, "pictures"), (row.mask, "masks")):
                below = Path(*Path(source).parts[1:])
                put(folder / target / below, (birds / source).read_bytes())
            lines.append(f"{row.image_id},{row.boxes.replace(' ', ',')}")
        put(folder / "boxes.csv", "\n".join(lines) + "\n")
        for name, content in _files(birds / "background"):
            if name.endswith(".jpg"):
                put(folder / "background" / name, content)
