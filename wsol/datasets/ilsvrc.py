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
folder in the format of `wsol.datasets.metadata`. Classes are numbered from 0 in the order of their
WordNet ids, as in that metadata and in torchvision; the numbers of the development kit have another
order and are used only to check the annotations. Image ids are those of the metadata too.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import ParseError

import pandas as pd
from defusedxml import ElementTree

from wsol.datasets.checks import (
    CORNERS,
    NUMBER,
    DatasetError,
    ImageCheck,
    box_texts,
    fit_boxes,
    raise_errors,
    read_lines,
    report,
    unique,
    with_sizes,
)
from wsol.datasets.index import TEST, TRAIN_WEAKSUP, index_table
from wsol.datasets.metadata import fullsup_rows
from wsol.datasets.progress import ProgressBar

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
VOC_CORNERS = ("xmin", "ymin", "xmax", "ymax")
SUFFIX = ".JPEG"  # whatever the bytes are: a few are PNG or CMYK, which Pillow detects
WHERE_FROM = (
    "ILSVRC is available, for non-commercial research and education, from "
    "https://image-net.org/challenges/LSVRC/2012/; unpack it so that ILSVRC/Data/CLS-LOC is in "
    "this folder, or name the folder of its archives"
)


def read_voc(path: Path, errors: list[str]) -> list[dict[str, str]]:
    """The objects of an annotation in the XML of PASCAL VOC: where, wnid, x0, y0, x1, y1 as text.

    Document types and entities are refused by defusedxml.
    """
    try:
        content = path.read_bytes()
        root = ElementTree.fromstring(content, forbid_dtd=True)
        if root.tag != "annotation":
            raise ValueError(f"its root is <{root.tag}>, not <annotation>")
    except FileNotFoundError:
        errors.append(f"{path}: missing annotation")
        return []
    except ParseError as error:
        errors.append(f"{path}:{error.position[0]}: no well-formed XML: {error}")
        return []
    except (OSError, ValueError, LookupError) as error:  # DefusedXmlException is a ValueError
        errors.append(f"{path}: cannot be read: {error}")
        return []
    elements, objects = root.findall("object"), []
    if not elements:
        errors.append(f"{path}: annotation without object")
    # ElementTree keeps no line numbers, so lines are counted in the text.
    lines = [content.count(b"\n", 0, m.start()) + 1 for m in re.finditer(rb"<object\b", content)]
    if len(lines) != len(elements):
        lines = [1] * len(elements)
    for element, line in zip(elements, lines, strict=True):
        where, name = f"{path}:{line}", (element.findtext("name") or "").strip()
        box = [(element.findtext(f"bndbox/{corner}") or "").strip() for corner in VOC_CORNERS]
        if name and all(re.fullmatch(NUMBER, number) for number in box):
            objects.append({"where": where, "wnid": name} | dict(zip(CORNERS, box, strict=True)))
        else:
            errors.append(f"{where}: malformed object, expected name and bndbox of four numbers")
    return objects


def _read_list(path: Path, errors: list[str]) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    listed = read_lines(path, r"(?P<image>\S+)\s+\S+", "image number", errors, ["image"])
    listed = unique(listed, "image", errors)
    return listed.assign(image=listed["image"] + SUFFIX)


def _check_listed(
    folder: Path, names: pd.Series, listed: pd.DataFrame | None, errors: list[str]
) -> None:
    if listed is None:
        return
    missing = listed[~listed["image"].isin(names)]
    report(missing, f"missing image {folder}/{{image}}", errors)
    extra = names[~names.isin(listed["image"])]
    errors += [f"{folder / name}: image that is not in the list of images" for name in extra]


def _image_names(folder: Path, errors: list[str]) -> list[str]:
    if not folder.is_dir():
        errors.append(f"{folder}: missing folder")
        return []
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(SUFFIX))
    if not names:
        errors.append(f"{folder}: no image here")
    return names


def read_classes(root: Path, errors: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Class names by wnid, in the order of the labels, and wnids by number of the devkit.

    Without a file of classes the folders of `train` are the classes and name themselves.
    """
    numbered, names = {}, {}
    for file, number, expected in (
        (NUMBERS, r"(?P<number>\d+)\s+", "<wnid> <number> <name>"),
        (MAPPING, "(?P<number>)", "<wnid> <names>"),
    ):
        if (root / file).is_file():
            pattern = rf"(?P<wnid>\S+)\s+{number}(?P<name>.+)"
            table = unique(read_lines(root / file, pattern, expected, errors), "wnid", errors)
            names = dict(zip(table["wnid"], table["name"], strict=True))
            if file == NUMBERS:
                numbered = dict(zip(table["number"], table["wnid"], strict=True))
    if not names and (root / IMAGES / "train").is_dir():
        folders = (root / IMAGES / "train").iterdir()
        names = {folder.name: folder.name for folder in folders if folder.is_dir()}
    return dict(sorted(names.items())), numbered


def _train_rows(
    root: Path, classes: dict[str, str], check: bool | ImageCheck, errors: list[str]
) -> pd.DataFrame:
    folder = root / IMAGES / "train"
    if not folder.is_dir():
        errors.append(f"{folder}: missing folder of the training images")
        return index_table([])
    listed = _read_list(root / LISTS / "train_cls.txt", errors)
    unknown = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    unknown |= set() if listed is None else set(listed["image"].str.replace("/.*", "", regex=True))
    unlisted = sorted(unknown.difference(classes))
    errors += [f"{folder / wnid}: no class of the list of classes" for wnid in unlisted]
    shown = ProgressBar(classes, "classes", unit="class", leave=False, delay=2)
    images = [
        (f"{wnid}/{name}", f"{folder}/{wnid}/{name}", label, classes[wnid], TRAIN_WEAKSUP)
        for label, wnid in enumerate(shown)
        for name in _image_names(folder / wnid, errors)
    ]
    table = pd.DataFrame(images, columns=["path", "where", "label", "class_name", "split"])
    _check_listed(folder, table["path"], listed, errors)
    rows = with_sizes(table, folder, check, errors)
    image_id = "train/" + rows["path"]
    return index_table(rows.assign(image_id=image_id, path=f"{IMAGES.as_posix()}/" + image_id))


def _check_classes(objects: pd.DataFrame, classes: dict[str, str], errors: list[str]) -> None:
    first = objects.groupby("path")["wnid"].transform("first")
    mixed = objects.assign(first=first)[objects["wnid"] != first]
    report(mixed, "object of {wnid} in an image of {first}", errors)
    heads = objects.drop_duplicates("path")
    unknown = heads[~heads["wnid"].isin(list(classes))]
    report(unknown, "class {wnid} is not in the list of classes", errors)


def _val_rows(
    root: Path, classes: dict[str, str], check: bool | ImageCheck, errors: list[str]
) -> pd.DataFrame:
    """Rows of `test`, with the `wnid` of each image.

    The corners of the boxes are taken as they are written, as in the metadata of Choe et al.,
    because scores depend on it; the annotations do not say whether they count from 0 or 1.
    """
    folder, annotations = root / IMAGES / "val", root / ANNOTATIONS / "val"
    listed = _read_list(root / LISTS / "val.txt", errors)
    images = pd.DataFrame({"path": _image_names(folder, errors)}, dtype="str")
    images["where"] = [f"{folder}/{name}" for name in images["path"]]
    _check_listed(folder, images["path"], listed, errors)
    objects = [
        {"path": name} | one
        for name in ProgressBar(images["path"], "annotations", leave=False, delay=2)
        for one in read_voc(annotations / f"{Path(name).stem}.xml", errors)
    ]
    boxes = pd.DataFrame(objects, columns=["path", "where", "wnid", *CORNERS], dtype="str")
    _check_classes(boxes, classes, errors)
    known = {Path(name).stem for name in images["path"]}
    extra = [path for path in sorted(annotations.glob("*.xml")) if path.stem not in known]
    errors += [f"{path}: annotation without image" for path in extra]
    rows = with_sizes(images, folder, check, errors)
    boxes = boxes.merge(rows.drop(columns="where"), on="path")
    rows = rows.merge(boxes.drop_duplicates("path")[["path", "wnid"]], on="path")
    rows = rows.assign(boxes=rows["path"].map(box_texts(fit_boxes(boxes, errors), "path")))
    rows = rows[rows["wnid"].isin(list(classes))]
    labels = {wnid: label for label, wnid in enumerate(classes)}
    image_id = "val/" + rows["path"]
    return rows.assign(
        image_id=image_id,
        path=f"{IMAGES.as_posix()}/" + image_id,
        split=TEST,
        label=rows["wnid"].map(labels),
        class_name=rows["wnid"].map(classes),
    )


def _check_ground_truth(
    root: Path, numbered: dict[str, str], val: pd.DataFrame, errors: list[str]
) -> None:
    """Line n of the ground truth holds the class of ILSVRC2012_val_<n>: compare the annotations."""
    wnids = dict(zip(val["image_id"], val["wnid"], strict=True))
    for path in (root / name for name in GROUND_TRUTH):
        if not path.is_file() or not numbered:
            continue
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            wnid = numbered.get(text.strip())
            annotated = wnids.get(f"val/ILSVRC2012_val_{line:08d}{SUFFIX}", wnid)
            if wnid is None:
                errors.append(f"{path}:{line}: malformed line {text!r}, expected a class number")
            elif wnid != annotated:
                message = f"the class is {wnid}, the annotation says {annotated}"
                errors.append(f"{path}:{line}: {message}")


def read_ilsvrc(
    root: str | Path,
    fullsup: str | Path | None = None,
    check_images: bool | ImageCheck = True,
    fullsup_images: str | Path | None = None,
) -> pd.DataFrame:
    """Index table of ILSVRC CLS-LOC; boxes in original pixels, none for `train-weaksup`.

    root : folder that holds ILSVRC/
    fullsup : folder of the metadata of `train-fullsup`, if there is one
    check_images : decode every image, or only read their headers if False; an `ImageCheck` can keep
        the results
    fullsup_images : folder that its image ids start from; by default fullsup/images

    Raises DatasetError with all errors, each with its file and, where there is one, its line. A box
    is compared with the size of the image, not with the one in the annotation; it may extend beyond
    the border by up to one pixel and is clipped.
    """
    root = Path(root)
    if not (root / IMAGES).is_dir():
        raise DatasetError([f"{root}: no ILSVRC here. {WHERE_FROM}"])
    errors: list[str] = []
    classes, numbered = read_classes(root, errors)
    train = _train_rows(root, classes, check_images, errors)
    val = _val_rows(root, classes, check_images, errors)
    _check_ground_truth(root, numbered, val, errors)
    tables = [train, index_table(val)]
    if fullsup is not None:
        images = Path(fullsup_images or Path(fullsup) / "images")
        names = list(classes.values())
        tables.append(fullsup_rows(Path(fullsup), images, root, names, check_images, errors))
    raise_errors(errors)
    return pd.concat(tables, ignore_index=True)
