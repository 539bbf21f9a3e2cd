"""Damaged files for every reader: a value or one clear error, in time and in memory.

    python tests/fuzz.py [--seconds 600] [--seed 0]

Each case takes a sound file, damages it at random (bits, bytes, pieces lost, doubled or moved,
numbers replaced) and reads it. Wrong is any exception but the errors that the command line reports
as one line, an error that names no file, a case of more than 20 seconds, and 2 GB more memory.
Exits with 1, and keeps the file, if a case is wrong.
"""

import argparse
import contextlib
import hashlib
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from wsol.backbones.parts import read_weights
from wsol.datasets.archives import read_checksums
from wsol.datasets.backgrounds.manifest import read_manifest
from wsol.datasets.backgrounds.web import read_urls
from wsol.datasets.box_tables import read_boxes
from wsol.datasets.checks import raise_errors, read_mask
from wsol.datasets.ilsvrc import read_voc
from wsol.datasets.image_files import load_image
from wsol.datasets.index import COLUMNS, read_index
from wsol.datasets.metadata import read_split_metadata
from wsol.datasets.openimages import read_mask as read_open_mask
from wsol.evaluation.heatmaps import open_score_maps, read_predictions
from wsol.evaluation.table import LocalizationTable
from wsol.inference.localize import read_image
from wsol.notebook.parameters import read_sections
from wsol.training import FOLDER
from wsol.training.runs import WEIGHTS, load_network

Reader = Callable[[Path], object]
NUMBERS = ["nan", "-1", "1e999", "0", "99999999999999999999", "0.5", "", '"', "\x00", "\ufeff", "é"]
METADATA = {
    "image_ids.txt": "a/0.jpg\na/1.jpg\nb/0.jpg\n",
    "class_labels.txt": "a/0.jpg,0\na/1.jpg,0\nb/0.jpg,1\n",
    "image_sizes.txt": "a/0.jpg,40,30\na/1.jpg,40,30\nb/0.jpg,40,30\n",
    "localization.txt": "a/0.jpg,1,2,20,20\na/1.jpg,1,2,20,20\nb/0.jpg,3,4,30,25\n",
}
VOC = """<annotation><filename>a</filename><size><width>40</width><height>30</height></size>
<object><name>n01440764</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax>
</bndbox></object></annotation>"""
CLASSES = ",".join(f"class_{i}" for i in range(1, 6))
IMAGES = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF"}


def collecting(read: Callable[[Path, list[str]], object]) -> Reader:
    """A reader that collects errors, as one that raises them."""

    def reader(path: Path) -> object:
        errors: list[str] = []
        value = read(path, errors)
        raise_errors(errors)
        return value

    return reader


def split(path: Path) -> object:
    """The metadata of a split, one of whose four files is damaged."""
    for name, text in METADATA.items():
        if not (path.parent / name).is_file():
            (path.parent / name).write_text(text)
    return read_split_metadata(path.parent, "test")


def targets(folder: Path) -> Iterator[tuple[str, bytes, Reader]]:
    """Name, content of a sound file, and reader."""
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    for suffix, kind in IMAGES.items():
        file = folder / f"sound.{suffix}"
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(file, kind, exif=exif.tobytes())
        yield f"image.{suffix}", file.read_bytes(), lambda path: load_image(path, 16)
    yield "photo.jpg", (folder / "sound.jpg").read_bytes(), read_image
    Image.fromarray((pixels[..., 0] > 99).astype(np.uint8) * 255).save(folder / "mask.png")
    mask = (folder / "mask.png").read_bytes()
    yield "mask.png", mask, lambda path: read_mask(path, (40, 30))
    yield "open_mask.png", mask, lambda path: read_open_mask(path, (40, 30))
    for name, text in METADATA.items():
        yield name, text.encode(), split
    index = dict.fromkeys(COLUMNS, "") | {"image_id": "a/0.jpg", "path": "a/0.jpg", "label": "0"}
    index |= {"split": "test", "class_name": "a", "boxes": "1 2 20 20", "width": 40, "height": 30}
    lines = ",".join(index) + "\n" + ",".join(map(str, index.values())) + "\n"
    yield "index.csv", lines.encode(), read_index
    boxes = "image,x0,y0,x1,y1\na/0.jpg,1,2,20,20\nb/0.jpg,3,4,30,25\n"
    yield "boxes.csv", boxes.encode(), collecting(read_boxes)
    coco = {
        "images": [{"id": 1, "file_name": "a/0.jpg", "width": 40, "height": 30}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 19, 18.5]}],
        "categories": [{"id": 1, "name": "a"}],
    }
    yield "boxes.json", json.dumps(coco).encode(), collecting(read_boxes)
    yield "voc.xml", VOC.encode(), collecting(read_voc)
    predictions = f"image_id,{CLASSES}\na,0,1,2,3,4\nb,4,3,2,1,0\n"
    reader = lambda path: read_predictions(path, ["a", "b"], [0, 1])  # noqa: E731
    yield "predictions.csv", predictions.encode(), reader
    np.save(folder / "map.npy", np.linspace(0, 1, 600).reshape(20, 30).astype(np.float32))
    reader = lambda path: open_score_maps(path.parent, ["map"])[0]  # noqa: E731
    yield "map.npy", (folder / "map.npy").read_bytes(), reader
    np.save(folder / "maps.npy", np.linspace(0, 1, 600).reshape(2, 15, 20))
    reader = lambda path: list(open_score_maps(path, ["a", "b"]))  # noqa: E731
    yield "maps.npy", (folder / "maps.npy").read_bytes(), reader
    run = FOLDER / "birds" / "cam-0"
    yield WEIGHTS, (run / WEIGHTS).read_bytes(), load_network
    yield "state.safetensors", (run / WEIGHTS).read_bytes(), read_weights
    yield "checksums.md5", b"d41d8cd98f00b204e9800998ecf8427e  a.tar\n" * 3, read_checksums
    yield "urls.csv", b"url,source,licence\nhttps://example.org/a.jpg,x,CC0\n", read_urls
    digest = hashlib.sha256((folder / "sound.jpg").read_bytes()).hexdigest()
    manifest = f"file,sha256,source,licence\na.jpg,{digest},x,CC0\n"

    def background_set(path: Path) -> object:
        (path.parent / "a.jpg").write_bytes((folder / "sound.jpg").read_bytes())
        return read_manifest(path.parent)

    yield "manifest.csv", manifest.encode(), background_set
    yield (
        "params.yaml",
        b"train:\n  epochs: 3\n  method: cam\n",
        lambda path: read_sections([path], ["train"]),
    )
    table = next(iter(sorted(Path(__file__).parents[1].glob("reports/localization/*.npz"))), None)
    if table is not None:
        yield "table.npz", table.read_bytes(), LocalizationTable.load


def damaged(content: bytes, random: random.Random) -> bytes:
    """The content after one to three damages."""
    data = bytearray(content)
    for _ in range(random.randint(1, 3)):
        here = min(random.randrange(len(data) + 1), int(random.expovariate(1 / 200)))
        here = random.choice([here, random.randrange(len(data) + 1)])
        length = random.choice([1, 2, 4, 8, 64, len(data) // 2])
        kind = random.randrange(7)
        if kind == 0 and data:
            data[min(here, len(data) - 1)] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[here : here + length] = random.randbytes(min(length, 64))
        elif kind == 2:
            del data[here : here + length]
        elif kind == 3:
            data[here:here] = data[here : here + length]
        elif kind == 4:
            data = data[:here]
        elif kind == 5:
            data[here : here + random.randint(0, 3)] = random.choice(NUMBERS).encode()
        else:
            data[here : here + 4] = random.choice([b"\xff" * 4, b"\x00" * 4, b"\x7f\xff\xff\xff"])
    return bytes(data)


def wrong(path: Path, reader: Reader) -> str:
    """What is wrong with how a file is read; "" if nothing is."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(20)
    try:
        reader(path)
    except (ValueError, OSError) as error:  # what the command line reports as one line
        is_decoding = isinstance(error, UnicodeError | json.JSONDecodeError)
        text = error.summary() if hasattr(error, "summary") else str(error)
        if is_decoding or not any(str(p) in text for p in (path, path.parent)):
            return f"error without the file: {type(error).__name__}: {text[:200]}"
    except BaseException:
        return traceback.format_exc(limit=-4)
    finally:
        signal.alarm(0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    return f"{grown:.1f} GB more memory" if grown > 2 else ""


def place(folder: Path, name: str, content: bytes) -> Path:
    """Write a file into a folder that has nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / name).write_bytes(content)
    return folder / name


def fuzz(folder: Path, seed: int, seconds: float, cases: int = 10**9) -> tuple[Counter, list[str]]:
    """Cases of each reader in turn until the time or their number is over; what was wrong."""
    (folder / "sound").mkdir()
    files, rng = list(targets(folder / "sound")), random.Random(seed)
    for name, content, reader in files:  # all sound files are read
        place(folder / "case", name, content)
        reader(folder / "case" / name)
    done, problems, end = Counter[str](), [], time.monotonic() + seconds
    while time.monotonic() < end and done.total() < cases:
        name, content, reader = files[done.total() % len(files)]
        path = place(folder / "case", name, damaged(content, rng))
        done[name] += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problem = wrong(path, reader)
        if problem:
            kept = Path(tempfile.gettempdir()) / f"fuzz-{done.total()}-{name}"
            kept.write_bytes(path.read_bytes())
            problems.append(f"{kept}: {problem}")
    return done, problems


def on_alarm(*_: object) -> None:
    raise BaseException("more than 20 seconds")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    signal.signal(signal.SIGALRM, on_alarm)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(sys.stdout):
        done, problems = fuzz(Path(folder), given.seed, given.seconds)
    for name, count in sorted(done.items()):
        print(f"{name:>24}: {count} cases, {sum(f'-{name}:' in p for p in problems)} wrong")
    print(*problems, sep="\n\n")
    print(f"{done.total()} cases, {len(problems)} wrong")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
