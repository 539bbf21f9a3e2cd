"""Writing small data sets in the formats of their authors: archives, annotations, lists.

For the miniatures and the tests, which read them back with the readers of the real ones.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from wsol.datasets.ilsvrc import ANNOTATIONS, IMAGES
from wsol.datasets.unpack import BOXES, CUB, MASKS, TRAIN, VAL

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
                continue
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
    put(folder / TRAIN, tar_bytes((f"{c.name}.tar", tar_bytes(_files(c))) for c in classes))
    put(folder / VAL, tar_bytes(_files(root / IMAGES / "val")))
    put(folder / BOXES, tgz_bytes(_files(root / ANNOTATIONS / "val", "val/")))
    return folder


def write_checksums(folder: Path) -> Path:
    """Write the MD5s of the files in a folder as md5sum does, and return the path."""
    path, lines = folder / CHECKSUMS, []
    for file in sorted(file for file in folder.iterdir() if file.name != CHECKSUMS):
        digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        lines.append(f"{digest}  {file.name}\n")
    put(path, "".join(lines))
    return path


def voc_annotation(name: str, boxes: Sequence[Sequence], image: str = "x") -> str:
    """An annotation as ILSVRC's are written, tabs and all; its size is not that of the image."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    objects = "".join(
        f"\t<object>\n\t\t<name>{name}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n\t\t<bndbox>\n"
        + "".join(f"\t\t\t<{c}>{v}</{c}>\n" for c, v in zip(corners, box, strict=True))
        + "\t\t</bndbox>\n\t</object>\n"
        for box in boxes
    )
    return (
        f"<annotation>\n\t<folder>val</folder>\n\t<filename>{image}</filename>\n"
        "\t<source>\n\t\t<database>ILSVRC_2012</database>\n\t</source>\n"
        "\t<size>\n\t\t<width>500</width>\n\t\t<height>375</height>\n\t\t<depth>3</depth>\n"
        f"\t</size>\n\t<segmented>0</segmented>\n{objects}</annotation>\n"
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
