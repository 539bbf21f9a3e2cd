"""Boxes of any image folder: a CSV table, or COCO's JSON for object detection.

Both become a table with the columns

    where           file and line, or file and entry
    image           its path below the root of the data set
    x0 y0 x1 y1     the box in pixels
    category        class of the object, "" where the table does not say it
    listed          size of the image as "width x height", "" where the table does not say it
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from wsol.datasets.checks import CORNERS, Box, read_text, report

HEADER = ["image", *CORNERS]
COLUMNS = ["where", *HEADER, "category", "listed"]
MALFORMED = "malformed, it needs image_id, category_id and bbox of 4 numbers"


def _numbers(values: Iterable[object]) -> Box:
    a, b, c, d = map(float, values)
    if not all(map(math.isfinite, (a, b, c, d))):
        raise ValueError
    return a, b, c, d


def read_boxes(path: Path, errors: list[str]) -> pd.DataFrame:
    """Read a box table; ``.json`` is COCO's, anything else CSV with the header `HEADER`."""
    text, rows = read_text(path, errors), []
    if text is not None:
        read = _read_coco if path.suffix.lower() == ".json" else _read_csv
        rows = read(path, text, errors)
    table = pd.DataFrame(rows, columns=COLUMNS)
    firsts = table.assign(first=table.groupby(HEADER)["where"].transform("first"))
    repeated = firsts[table.duplicated(HEADER)]
    report(repeated, "image {image} is listed twice, as on {first}", errors)
    return table


def _read_csv(path: Path, text: str, errors: list[str]) -> list[tuple]:
    """One box a line below the header; an image may have several lines."""
    reader = csv.reader(text.splitlines())
    if [name.strip() for name in next(reader, [])] != HEADER:
        errors.append(f"{path}:1: the first line must be {','.join(HEADER)}")
        return []
    rows = []
    for row in filter(None, reader):
        where = f"{path}:{reader.line_num}"
        try:
            rows.append((where, row[0].strip(), *_numbers(row[1:]), "", ""))
        except ValueError:
            expected = ",".join(HEADER)
            errors.append(f"{where}: malformed line {','.join(row)!r}, expected '{expected}'")
    return rows


def _read_coco(path: Path, text: str, errors: list[str]) -> list[tuple]:
    """Boxes of COCO's annotations; regions of many objects (iscrowd 1) are left out."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        errors.append(f"{path}:{error.lineno}: no JSON: {error.msg}")
        return []
    for name in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            errors.append(f"{path}: no list of {name}, so this is not COCO's format")
            return []
    images = _by_id(path, "images", content["images"], "file_name", errors)
    categories = _by_id(path, "categories", content["categories"], "name", errors)
    rows = []
    for number, annotation in enumerate(content["annotations"]):
        where = f"{path}: annotations[{number}]"
        try:
            image, category = annotation["image_id"], annotation["category_id"]
            x, y, width, height = _numbers(annotation["bbox"])
            crowd = annotation.get("iscrowd", 0)
        except (KeyError, TypeError, ValueError):
            errors.append(f"{where}: {MALFORMED}")
            continue
        if image not in images:
            errors.append(f"{where}: image {image} is unknown")
        elif category not in categories:
            errors.append(f"{where}: category {category} is unknown")
        elif not crowd:
            entry = images[image]
            known = {"width", "height"} <= set(entry)
            listed = f"{entry['width']} x {entry['height']}" if known else ""
            box = (x, y, x + width, y + height)
            rows.append((where, entry["file_name"], *box, categories[category]["name"], listed))
    return rows


def _by_id(path: Path, name: str, entries: list, needs: str, errors: list[str]) -> dict:
    """Entries of a list by their id; an id or a name that is listed again is an error."""
    table, named = {}, {}
    for number, entry in enumerate(entries):
        where = f"{path}: {name}[{number}]"
        if not isinstance(entry, dict) or not {"id", needs} <= set(entry):
            errors.append(f"{where}: malformed, it needs an id and a {needs}")
        elif entry["id"] in table:
            errors.append(f"{where}: duplicate id {entry['id']}")
        elif named.setdefault(entry[needs], number) != number:
            first = f"{name}[{named[entry[needs]]}]"
            errors.append(f"{where}: {entry[needs]} is listed twice, as in {first}")
        else:
            table[entry["id"]] = entry
    return table
