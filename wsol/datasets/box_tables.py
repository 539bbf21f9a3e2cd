"""Boxes of any image folder: a CSV table, or COCO's JSON for object detection.

Both become records of an image (its path below the data set's root) and of a box with the class
that is said to be in it, if one is. Faults go to a list, as in `wsol.datasets.checks`.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from wsol.datasets.checks import Box, Record, Size

HEADER = ["image", "x0", "y0", "x1", "y1"]


class BoxOf(NamedTuple):
    """The value of a record: a box in pixels, x0 y0 x1 y1."""

    box: Box
    category: str | None = None  # class of the object, where the table says it
    size: Size | None = None  # width and height of the image, where the table says them


def _numbers(values: Iterable[object]) -> Box:
    """Four finite numbers. Raises ValueError or TypeError if they are others."""
    a, b, c, d = map(float, values)
    if not all(map(math.isfinite, (a, b, c, d))):
        raise ValueError
    return a, b, c, d


def read_boxes(path: Path, faults: list[str]) -> list[Record]:
    """Records of a box table; ``.json`` is COCO's, anything else CSV.

    The key of a record is the image, its value a `BoxOf`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        missing = isinstance(error, FileNotFoundError)
        faults.append(f"{path}: " + ("missing file" if missing else f"cannot be read: {error}"))
        return []
    read = _read_coco if path.suffix.lower() == ".json" else _read_csv
    return _once(read(path, text, faults), faults)


def _once(records: list[Record], faults: list[str]) -> list[Record]:
    """The records; the same box of an image listed twice is a fault."""
    first: dict[tuple, str] = {}
    for record in records:
        where = first.setdefault((record.key, record.value.box), record.where)
        if where != record.where:
            faults.append(f"{record.where}: image {record.key} is listed twice, as on {where}")
    return records


def _read_csv(path: Path, text: str, faults: list[str]) -> list[Record]:
    """One box a line below the line image,x0,y0,x1,y1; an image may have several lines."""
    reader = csv.reader(text.splitlines())
    if [name.strip() for name in next(reader, [])] != HEADER:
        faults.append(f"{path}:1: the first line must be {','.join(HEADER)}")
        return []
    records = []
    for row in filter(None, reader):
        where = f"{path}:{reader.line_num}"
        try:
            image, *corners = row
            records.append(Record(where, image.strip(), BoxOf(_numbers(corners))))
        except ValueError:
            expected = ",".join(HEADER)
            faults.append(f"{where}: malformed line {','.join(row)!r}, expected '{expected}'")
    return records


def _read_coco(path: Path, text: str, faults: list[str]) -> list[Record]:
    """Boxes of COCO's annotations; regions of many objects (iscrowd 1) are left out."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        faults.append(f"{path}:{error.lineno}: no JSON: {error.msg}")
        return []
    lists = {}
    for name in ("images", "annotations", "categories"):
        lists[name] = content.get(name) if isinstance(content, dict) else None
        if not isinstance(lists[name], list):
            faults.append(f"{path}: no list of {name}, so this is not COCO's format")
            return []
    images = _by_id(path, "images", lists["images"], "file_name", faults)
    categories = _by_id(path, "categories", lists["categories"], "name", faults)
    records = []
    for number, annotation in enumerate(lists["annotations"]):
        where = f"{path}: annotations[{number}]"
        record = _coco_record(where, annotation, images, categories, faults)
        records += [record] if record else []
    return records


def _by_id(path: Path, name: str, entries: list, needs: str, faults: list[str]) -> dict:
    """Entries of a list by their id; an id or a name that comes again is a fault."""
    table, named = {}, {}
    for number, entry in enumerate(entries):
        where = f"{path}: {name}[{number}]"
        if not isinstance(entry, dict) or not {"id", needs} <= set(entry):
            faults.append(f"{where}: malformed, it needs an id and a {needs}")
        elif entry["id"] in table:
            faults.append(f"{where}: duplicate id {entry['id']}")
        elif named.setdefault(entry[needs], number) != number:
            first = f"{name}[{named[entry[needs]]}]"
            faults.append(f"{where}: {entry[needs]} is listed twice, as in {first}")
        else:
            table[entry["id"]] = entry
    return table


def _coco_record(
    where: str, annotation: object, images: dict, categories: dict, faults: list[str]
) -> Record | None:
    """The box of one annotation; what is wrong with it is a fault."""
    try:
        image_id, category_id = annotation["image_id"], annotation["category_id"]
        x, y, width, height = _numbers(annotation["bbox"])
        crowd = annotation.get("iscrowd", 0)
    except (KeyError, TypeError, ValueError):
        faults.append(f"{where}: malformed, it needs image_id, category_id and bbox of 4 numbers")
        return None
    if image_id not in images:
        faults.append(f"{where}: image {image_id} is unknown")
    if category_id not in categories:
        faults.append(f"{where}: category {category_id} is unknown")
    if crowd or image_id not in images or category_id not in categories:
        return None
    image, box = images[image_id], (x, y, x + width, y + height)
    size = (image["width"], image["height"]) if {"width", "height"} <= set(image) else None
    return Record(where, image["file_name"], BoxOf(box, categories[category_id]["name"], size))
