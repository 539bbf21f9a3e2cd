"""Boxes of any image folder: a CSV table, or COCO's JSON for object detection.

The files that `wsol localize` writes are read too, and COCO as annotation tools write it: ids are
numbers or text, from any first number, and other keys are passed over. Both become a table with the
columns

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
import re
from collections.abc import Container, Iterable
from pathlib import Path, PurePosixPath
from unicodedata import normalize

import pandas as pd

from wsol.datasets.checks import CORNERS, NUMBER, Box, read_text, report

HEADER = ["image", *CORNERS]
COLUMNS = ["where", *HEADER, "category", "listed"]
MALFORMED = "malformed, it needs image_id, category_id and bbox of 4 numbers"


def _numbers(values: Iterable[object]) -> Box:
    texts = [str(value).strip() for value in values]
    a, b, c, d = map(float, texts)  # which takes 1_0 too
    if not all(re.fullmatch(NUMBER, t) and math.isfinite(float(t)) for t in texts):
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


def image_ids(names: pd.Series, known: set[str]) -> pd.Series:
    """Names of images as the ids below the root that they stand for, or as they are.

    A name is an id itself; or, with "/" for "\\" and without "." and what all unknown names begin
    with, as where they start from another folder. Accents may be letters or marks (NFC, NFD).
    """
    same = {normalize("NFC", name): name for name in known}
    posix = names.str.replace("\\", "/").map(lambda name: PurePosixPath(name).as_posix())
    ids = posix.str.normalize("NFC").map(lambda name: same.get(name, name))
    ids = ids.where(~names.isin(known), names)
    unknown = ids[~ids.isin(known)].drop_duplicates()
    found = {name: _tail(name, same) for name in unknown}
    starts = {name.removesuffix(tail) for name, tail in found.items()}
    if len(starts) == 1 and all(found.values()):
        return ids.map(lambda name: same.get(found.get(name, name), name))
    return ids.where(ids.isin(known), names)


def _tail(name: str, known: Container[str]) -> str:
    parts = name.split("/")
    ends = ("/".join(parts[i:]) for i in range(1, len(parts)))
    return next((end for end in ends if end in known), "")


def _read_csv(path: Path, text: str, errors: list[str]) -> list[tuple]:
    # Of a table of `wsol localize` classes after the first and images without a box are left out.
    reader = csv.reader(text.splitlines())
    rows = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if not {*HEADER} <= {*header} or len({*header}) < len(header):
            names = ",".join(HEADER)
            errors.append(f"{path}:1: the first line must be {names}, with commas between them")
            return []
        for row in filter(None, reader):
            where, values = f"{path}:{reader.line_num}", dict(zip(header, row, strict=False))
            try:
                if len(row) != len(header):
                    raise ValueError
                ours = {"rank", "score", "class_name"} <= {*header}
                if ours and (values["rank"] != "1" or not any(values[n].strip() for n in CORNERS)):
                    continue
                box = _numbers(values[name] for name in CORNERS)
                if any(box) or not ours:
                    name, category = values["image"].strip(), values.get("class_name", "")
                    rows.append((where, name, *box, category, ""))
            except ValueError:
                expected = ",".join(header)
                errors.append(f"{where}: malformed line {','.join(row)!r}, expected '{expected}'")
    except csv.Error as error:  # of a field of more than 128 kB
        errors.append(f"{path}:{reader.line_num}: no CSV: {error}")
    return rows


def _read_coco(path: Path, text: str, errors: list[str]) -> list[tuple]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        errors.append(f"{path}:{error.lineno}: no JSON: {error.msg}")
        return []
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 1,000 brackets
        errors.append(f"{path}: no JSON that can be read: {error}")
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
            image, category = _id(annotation["image_id"]), _id(annotation["category_id"])
            if not isinstance(annotation["bbox"], list):
                raise TypeError
            x, y, width, height = _numbers(annotation["bbox"])
            crowd = float(annotation.get("iscrowd") or 0)
        except (KeyError, TypeError, ValueError):
            errors.append(f"{where}: {MALFORMED}")
            continue
        if image not in images:
            errors.append(f"{where}: image {image} is unknown")
        elif category not in categories:
            errors.append(f"{where}: category {category} is unknown")
        elif not crowd:
            box = (x, y, x + width, y + height)
            entry, name = images[image], categories[category]["name"]
            rows.append((where, entry["file_name"], *box, name, _listed(entry)))
    return rows


def _id(value: object) -> str:
    """An id as text: tools write 7, 7.0 or "7" for the same. Raises TypeError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _listed(image: dict) -> str:
    try:
        return f"{float(image['width']):g} x {float(image['height']):g}"
    except (KeyError, TypeError, ValueError):
        return ""


def _by_id(path: Path, name: str, entries: list, needs: str, errors: list[str]) -> dict:
    """Entries of a list by their id; an id or a name that is listed again is an error."""
    table, named = {}, {}
    for number, entry in enumerate(entries):
        where = f"{path}: {name}[{number}]"
        try:
            key = _id(entry["id"])
            if not isinstance(entry[needs], str):
                raise TypeError
        except (KeyError, TypeError):
            errors.append(f"{where}: malformed, it needs an id and a {needs}")
            continue
        if key in table:
            errors.append(f"{where}: duplicate id {key}")
        elif named.setdefault(entry[needs], number) != number:
            first = f"{name}[{named[entry[needs]]}]"
            errors.append(f"{where}: {entry[needs]} is listed twice, as in {first}")
        else:
            table[key] = entry
    return table
