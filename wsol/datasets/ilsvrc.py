"""Reader of ILSVRC CLS-LOC, the classification and localization set of ILSVRC 2012 to 2017.

Below the root, as the archive ILSVRC2017_CLS-LOC unpacks, or as `unpack` lays out those of 2012:

    ILSVRC/Data/CLS-LOC/train/<wnid>/*.JPEG     1,281,167 images of 1,000 classes
    ILSVRC/Data/CLS-LOC/val/*.JPEG              50,000 images
    ILSVRC/Annotations/CLS-LOC/val/*.xml        their boxes and classes, several boxes per image
    ILSVRC/ImageSets/CLS-LOC/train_cls.txt, val.txt     optional: <path without suffix> <number>
    LOC_synset_mapping.txt                      optional: <wnid> <names>
    ILSVRC/devkit/data/map_clsloc.txt           optional: <wnid> <number> <name>
    ILSVRC/devkit/data/*_validation_ground_truth.txt    optional: one number of a class per image

As in Choe et al. 2020, `val` is the split `test`, `train` is `train-weaksup` (the annotations of
some of its images are left alone, for it has labels only), and `train-fullsup` is ImageNetV2, a
folder in the format of `split_metadata`. Classes are numbered from 0 in the order of their WordNet
ids, as in that metadata and in torchvision; the numbers of the development kit have another order
and are used only to check the annotations. Image ids are those of the metadata too.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tqdm.auto import tqdm

from wsol.datasets.checks import (
    Box,
    DatasetError,
    ImageCheck,
    by_key,
    fit_box,
    parse_numbers,
    parse_path,
    read_records,
)
from wsol.datasets.index import format_boxes, index_table
from wsol.datasets.metadata import fullsup_rows, known_sizes

# Reader of one box annotation in the XML of PASCAL VOC, as ILSVRC uses it.

LARGEST = 2**20  # bytes; an annotation of a hundred objects has a few tens of thousands
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocObject(NamedTuple):
    """One annotated object: where it stands, the name of its class, its box in pixels."""

    where: str
    name: str
    box: Box


def read_voc(path: Path, faults: list[str]) -> list[VocObject]:
    """The objects of an annotation; what is wrong with it goes to `faults`.

    A document type is refused before anything is parsed, because entities are declared there.
    """
    try:
        if path.stat().st_size > LARGEST:
            faults.append(f"{path}: larger than {LARGEST} bytes, so no annotation")
            return []
        # As text, so that what is searched and what is parsed cannot be of different encodings.
        text = path.read_text(encoding="utf-8-sig")
        root = _parse(text)
    except FileNotFoundError:
        faults.append(f"{path}: missing annotation")
    except ElementTree.ParseError as error:
        faults.append(f"{path}:{error.position[0]}: no well-formed XML: {error}")
    except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        faults.append(f"{path}: cannot be read: {error}")
    else:
        return _objects(root, text, path, faults)
    return []


def _parse(text: str) -> ElementTree.Element:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it declares a document type, which no annotation needs")
    root = ElementTree.fromstring(text)
    if root.tag != "annotation":
        raise ValueError(f"its root is <{root.tag}>, not <annotation>")
    return root


def _objects(
    root: ElementTree.Element, text: str, path: Path, faults: list[str]
) -> list[VocObject]:
    elements = root.findall("object")
    if not elements:
        faults.append(f"{path}: annotation without object")
    # ElementTree does not tell lines, so they are counted in the text.
    lines = [text.count("\n", 0, m.start()) + 1 for m in re.finditer(r"<object\b", text)]
    if len(lines) != len(elements):
        lines = [1] * len(elements)
    objects = []
    for line, element in zip(lines, elements, strict=True):
        where = f"{path}:{line}"
        name = (element.findtext("name") or "").strip()
        corners = [(element.findtext(f"bndbox/{corner}") or "").strip() for corner in CORNERS]
        try:
            if not name:
                raise ValueError
            objects.append(VocObject(where, name, parse_numbers(" ".join(corners))))
        except ValueError:
            faults.append(
                f"{where}: malformed object, expected a name and a bndbox of four numbers"
            )
    return objects


IMAGES = Path("ILSVRC/Data/CLS-LOC")
ANNOTATIONS = Path("ILSVRC/Annotations/CLS-LOC")
LISTS = Path("ILSVRC/ImageSets/CLS-LOC")
DEVKIT = Path("ILSVRC/devkit/data")
MAPPING = "LOC_synset_mapping.txt"
NUMBERS = DEVKIT / "map_clsloc.txt"
GROUND_TRUTH = (
    DEVKIT / "ILSVRC2012_validation_ground_truth.txt",
    DEVKIT / "ILSVRC2015_clsloc_validation_ground_truth.txt",
)
SUFFIX = ".JPEG"  # whatever the bytes are: a few are PNG or CMYK, which Pillow tells by itself
WHERE_FROM = (
    "ILSVRC is to be had, for non-commercial research and education, from "
    "https://image-net.org/challenges/LSVRC/2012/; unpack it so that ILSVRC/Data/CLS-LOC lies in "
    "this folder, or name the folder of its archives with --archives"
)
Listed = dict[str, dict[str, int]]  # folder -> name of an image -> line of the list


def _read_list(path: Path, faults: list[str]) -> Listed | None:
    """The images of a list of ImageSets by folder, "" if they have none; None without a list."""
    if not path.is_file():
        return None
    listed: Listed = {}
    with path.open(encoding="utf-8", errors="replace") as lines:  # 1.28 million of them
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                image, _ = line.split()
                folder, _, stem = parse_path(image).rpartition("/")
            except ValueError:
                text = line.strip()
                faults.append(f"{path}:{number}: malformed line {text!r}, expected 'image number'")
                continue
            first = listed.setdefault(folder, {}).setdefault(stem + SUFFIX, number)
            if first != number:
                faults.append(f"{path}:{number}: duplicate id {image}, first on line {first}")
    return listed


def _images(folder: Path, listed: dict[str, int] | None, path: Path, faults: list[str]) -> list:
    """Names of the images in a folder, sorted; a list and the folder must name the same ones."""
    if not folder.is_dir():
        faults.append(f"{folder}: missing folder")
        return []
    there = {entry.name for entry in folder.iterdir() if entry.name.endswith(SUFFIX)}
    if not there:
        faults.append(f"{folder}: no image here")
    if listed is not None:
        missing = [name for name in listed if name not in there]
        faults.extend(f"{path}:{listed[name]}: missing image {folder / name}" for name in missing)
        extra = sorted(there.difference(listed))
        faults.extend(f"{folder / name}: image that is not in {path.name}" for name in extra)
    return sorted(there)


def _number_and_name(text: str) -> tuple[int, str]:
    number, name = text.split(None, 1)
    return int(number), name


def read_classes(root: Path, faults: list[str]) -> tuple[dict[str, str], dict[int, str]]:
    """Class names by wnid, in the order of the labels, and wnids by number of the devkit.

    Without a file of classes the folders of `train` are the classes and name themselves.
    """
    numbered, names = {}, {}
    if (root / NUMBERS).is_file():
        expected = "<wnid> <number> <name>"
        records = read_records(
            root / NUMBERS, lambda line: line.split(None, 1), _number_and_name, expected, faults
        )
        table = by_key(records, faults)
        numbered = {record.value[0]: wnid for wnid, record in table.items()}
        names = {wnid: record.value[1] for wnid, record in table.items()}
    if (root / MAPPING).is_file():
        records = read_records(
            root / MAPPING, lambda line: line.split(None, 1), str, "<wnid> <names>", faults
        )
        names = {wnid: record.value for wnid, record in by_key(records, faults).items()}
    if not names and (root / IMAGES / "train").is_dir():
        folders = (root / IMAGES / "train").iterdir()
        names = {folder.name: folder.name for folder in folders if folder.is_dir()}
    return dict(sorted(names.items())), numbered


def _train_rows(
    root: Path, classes: dict[str, str], check_images: bool | ImageCheck, faults: list[str]
) -> list[pd.DataFrame]:
    """Rows of `train-weaksup`, one table per class, so that no list holds all images at once."""
    folder, path = root / IMAGES / "train", root / LISTS / "train_cls.txt"
    if not folder.is_dir():
        faults.append(f"{folder}: missing folder of the training images")
        return []
    listed = _read_list(path, faults)
    strangers = {entry.name for entry in folder.iterdir() if entry.is_dir()} | set(listed or ())
    for wnid in sorted(strangers.difference(classes)):
        faults.append(f"{folder / wnid}: no class of the list of classes")
    tables = []
    shown = tqdm(classes.items(), "classes", unit="class", leave=False, delay=2)
    for label, (wnid, class_name) in enumerate(shown):
        of_class = None if listed is None else listed.get(wnid, {})
        names = _images(folder / wnid, of_class, path, faults)
        wheres = [str(folder / wnid / name) for name in names]
        sizes = known_sizes(folder / wnid, names, wheres, check_images, faults)
        below = f"train/{wnid}"
        tables.append(
            index_table(
                [
                    dict(image_id=f"{below}/{name}", path=f"{IMAGES.as_posix()}/{below}/{name}")
                    | dict(split="train-weaksup", label=label, class_name=class_name)
                    | dict(width=size[0], height=size[1])
                    for name, size in zip(names, sizes, strict=True)
                    if size is not None
                ]
            )
        )
    return tables


def _class_of(objects: list[VocObject], classes: dict[str, str], faults: list[str]) -> str | None:
    """The wnid of an annotation, all objects of which are of one class."""
    first = objects[0]
    for thing in objects:
        if thing.name != first.name:
            faults.append(f"{thing.where}: object of {thing.name} in an image of {first.name}")
    if first.name not in classes:
        faults.append(f"{first.where}: class {first.name} is not in the list of classes")
        return None
    return first.name


def _val_rows(
    root: Path, classes: dict[str, str], check_images: bool | ImageCheck, faults: list[str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Rows of `test`, and the wnid of each image by its name."""
    folder, path = root / IMAGES / "val", root / LISTS / "val.txt"
    listed = _read_list(path, faults)
    names = _images(folder, None if listed is None else listed.get("", {}), path, faults)
    sizes = known_sizes(folder, names, [str(folder / n) for n in names], check_images, faults)
    labels = {wnid: label for label, wnid in enumerate(classes)}
    rows, wnids = [], {}
    for name, size in zip(names, sizes, strict=True):
        objects = read_voc(root / ANNOTATIONS / "val" / f"{Path(name).stem}.xml", faults)
        wnid = _class_of(objects, classes, faults) if objects else None
        if wnid is None or size is None:
            continue
        wnids[name] = wnid
        # The corners go in as they are written, as in the metadata of Choe et al.: scores depend
        # on it. Whether they count from 0 or from 1 the annotations do not say.
        boxes = [fit_box(thing.box, size, thing.where, faults) for thing in objects]
        rows.append(
            dict(image_id=f"val/{name}", path=f"{IMAGES.as_posix()}/val/{name}", split="test")
            | dict(label=labels[wnid], class_name=classes[wnid])
            | dict(width=size[0], height=size[1], boxes=format_boxes(boxes))
        )
    known = {Path(name).stem for name in names}
    for annotation in sorted((root / ANNOTATIONS / "val").glob("*.xml")):
        if annotation.stem not in known:
            faults.append(f"{annotation}: annotation of an image that is not there")
    return index_table(rows), wnids


def _check_ground_truth(
    root: Path, numbered: dict[int, str], wnids: dict[str, str], faults: list[str]
) -> None:
    """Line n of the ground truth holds the class of ILSVRC2012_val_<n>: compare the annotations."""
    for path in (root / name for name in GROUND_TRUTH):
        if not path.is_file() or not numbered:
            continue
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            wnid = numbered.get(int(text)) if text.strip().isdecimal() else None
            found = wnids.get(f"ILSVRC2012_val_{line:08d}{SUFFIX}", wnid)
            if wnid is None:
                faults.append(f"{path}:{line}: malformed line {text!r}, expected a class number")
            elif wnid != found:
                faults.append(f"{path}:{line}: the class is {wnid}, the annotation says {found}")


def read_ilsvrc(
    root: str | Path,
    fullsup: str | Path | None = None,
    check_images: bool | ImageCheck = True,
    fullsup_images: str | Path | None = None,
) -> pd.DataFrame:
    """Index table of ILSVRC CLS-LOC; boxes in original pixels, none for `train-weaksup`.

    Parameters
    ----------
    root : folder that holds ILSVRC/
    fullsup : folder of the metadata of `train-fullsup`, if there is one
    check_images : decode every image, or only their headers if False; an `ImageCheck` can remember
        what it found
    fullsup_images : folder that its image ids start from; by default fullsup/images

    Raises DatasetError with all faults, each with its file and, where there is one, its line. A box
    is judged by the size of the picture, not by the one in the annotation; it may pass the border
    by up to one pixel and is clipped.
    """
    root = Path(root)
    if not (root / IMAGES).is_dir():
        raise DatasetError([f"{root}: no ILSVRC here. {WHERE_FROM}"])
    faults: list[str] = []
    classes, numbered = read_classes(root, faults)
    tables = _train_rows(root, classes, check_images, faults)
    rows, wnids = _val_rows(root, classes, check_images, faults)
    _check_ground_truth(root, numbered, wnids, faults)
    tables.append(rows)
    if fullsup is not None:
        images = Path(fullsup_images or Path(fullsup) / "images")
        names = list(classes.values())
        tables.append(fullsup_rows(Path(fullsup), images, root, names, check_images, faults))
    if faults:
        raise DatasetError(faults)
    return pd.concat(tables, ignore_index=True)
