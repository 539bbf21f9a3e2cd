"""Reader of one box annotation in the XML of PASCAL VOC, as ILSVRC uses it.

    <annotation>
      <size><width>500</width><height>375</height><depth>3</depth></size>
      <object>
        <name>n01440764</name>
        <bndbox><xmin>34</xmin><ymin>128</ymin><xmax>430</xmax><ymax>305</ymax></bndbox>
      </object>
      ...
    </annotation>

Only the objects are read. The size and the file name are not: in ILSVRC some of them disagree with
the picture, and the picture decides.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

from wsol.datasets.faults import Box, parse_numbers

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
