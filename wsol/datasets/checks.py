"""Looking at the images of a data set: their sizes, and whether they decode.

Decoding the 1.3 million images of ILSVRC takes hours, so that what was found can be kept in a
journal, and a check that was interrupted goes on where it stopped. The journal is a text file that
is only ever appended to, one line of JSON per image, written as soon as the image is decoded:

    ["images/001.Finch/a.jpg", 70123, 1700000000000000000, 500, 375]
    ["images/001.Finch/b.jpg", 312, 1700000000000000000, "image does not decode: ..."]

with the path from the journal's folder, bytes, time of the last change (ns), and width and height
in pixels or the fault. An image of the same bytes and time that was sound is not decoded again. A
line that was torn by a crash is no JSON, and is passed over.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

from PIL import Image
from tqdm.auto import tqdm

# Reading a data set's text files without stopping at the first fault.

Value = TypeVar("Value")
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels
Size = tuple[int, int]  # width, height in pixels

SHOWN = 20  # faults in a summary
BORDER = 1.0  # pixels by which hand-drawn boxes may pass the border before it is a fault


class DatasetError(ValueError):
    """All that is wrong with a data set; `faults` holds one line per fault.

    `table` is the file that they were written to, if they were.
    """

    def __init__(self, faults: Sequence[str], table: Path | None = None) -> None:
        self.faults, self.table = list(faults), table
        super().__init__("\n".join([f"{self._count()} in the data set:", *self.faults]))

    def _count(self) -> str:
        return f"{len(self.faults):,} fault{'s' * (len(self.faults) != 1)}"

    def summary(self) -> str:
        """The count and the first faults, for a person to read."""
        lines = [f"{self._count()} in the data set:", *self.faults[:SHOWN]]
        if len(self.faults) > SHOWN:
            lines.append(f"... and {len(self.faults) - SHOWN:,} more")
        if self.table is not None:
            lines.append(f"All of them are in {self.table}.")
        return "\n".join(lines)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook: the faults are in the data, not in the code."""
        return [f"DatasetError: {self.summary()}"]


class Record(NamedTuple):
    """One line of a text file: where it stands, whom it is about, what it says."""

    where: str
    key: str
    value: object


def read_records(
    path: Path,
    split: Callable[[str], Sequence[str]],
    parse: Callable[[str], object],
    expected: str,
    faults: list[str],
) -> list[Record]:
    """The records of a text file, blank lines left out.

    `split` cuts a line into key and rest, `parse` makes the rest a value; a line where either
    raises ValueError is a fault, and so is a file that is missing, empty or not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        missing = isinstance(error, FileNotFoundError)
        faults.append(f"{path}: " + ("missing file" if missing else f"cannot be read: {error}"))
        return []
    if not any(line.strip() for line in lines):
        faults.append(f"{path}: empty file")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            key, rest = split(line.strip())
            records.append(Record(where, key, parse(rest)))
        except ValueError:
            faults.append(f"{where}: malformed line {line.strip()!r}, expected '{expected}'")
    return records


def by_key(records: Iterable[Record], faults: list[str]) -> dict[str, Record]:
    """Records by their key; one that comes again is a fault, and the first stands."""
    table: dict[str, Record] = {}
    for record in records:
        if record.key in table:
            first = table[record.key].where.rpartition(":")[2]
            faults.append(f"{record.where}: duplicate id {record.key}, first on line {first}")
        else:
            table[record.key] = record
    return table


def parse_path(text: str) -> str:
    """A path below the images folder. Raises ValueError if it leads out of it."""
    if text.startswith("/") or "\\" in text or ".." in text.split("/"):
        raise ValueError(text)
    return text


def parse_numbers(text: str, separator: str | None = None) -> Box:
    """Four finite numbers. Raises ValueError if there are fewer, more, or others."""
    a, b, c, d = map(float, text.split(separator))
    if not all(map(math.isfinite, (a, b, c, d))):
        raise ValueError(text)
    return a, b, c, d


def fit_box(box: Box, size: Size, where: str, faults: list[str]) -> Box:
    """The box clipped to its image; of zero size or beyond `BORDER` pixels outside is a fault."""
    (x0, y0, x1, y1), (width, height) = box, size
    shown = " ".join(f"{value:g}" for value in box)
    clipped = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if x1 <= x0 or y1 <= y0:
        faults.append(f"{where}: box of zero size: {shown}")
    elif min(x0, y0) < -BORDER or x1 > width + BORDER or y1 > height + BORDER:
        faults.append(f"{where}: box {shown} outside the image of {width} x {height} pixels")
    elif clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        faults.append(f"{where}: box {shown} on the border of the image, nothing of it inside")
    return clipped


JOURNAL = "images.jsonl"  # what a journal is called in the folder of its data set
HEADER = '["wsol", "journal of checked images", 1]\n'
AHEAD = 4  # images under way per thread: with 1.3 million at once memory would run out


@dataclass(frozen=True)
class ImageCheck:
    """How the images of a data set are looked at.

    decode : read all pixels of every image; otherwise only the headers are read
    journal : file that keeps what was found, for the next time; nothing is kept without one
    workers : threads, all cores by default; Pillow decodes outside the interpreter lock
    """

    decode: bool = True
    journal: Path | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers is {self.workers}; at least one must look at the images")

    @cached_property
    def sound(self) -> dict[bytes, Size]:
        """Sizes of the images that the journal holds for sound, read once.

        By a digest of path, bytes and time: 1.3 million paths would take twice the memory.
        """
        return {} if self.journal is None else _read_journal(Path(self.journal))


def as_check(check: bool | ImageCheck) -> ImageCheck:
    """The check itself, or that which a bool asks for: to decode, or to read headers only."""
    return check if isinstance(check, ImageCheck) else ImageCheck(decode=check)


def image_size(path: Path, decode: bool = True) -> Size | str:
    """Width and height of an image, or what is wrong with it; `decode` reads all its pixels."""
    try:
        with Image.open(path) as image:
            if decode:
                image.load()
            return image.size
    except FileNotFoundError:
        return f"missing image {path}"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"image does not decode: {path} ({str(error).splitlines()[0]})"


def image_sizes(paths: Sequence[Path], check: bool | ImageCheck = True) -> list[Size | str]:
    """`image_size` of many images in their order, `check` saying how they are looked at.

    Raises DatasetError if the journal of the check is another file.
    """
    check, found = as_check(check), []
    if not paths:
        return found
    workers = check.workers or os.cpu_count() or 1
    with _journal(check) as note, ThreadPoolExecutor(workers) as pool:
        looks = _in_order(pool, lambda path: _look(path, check), paths, AHEAD * workers)
        for look in tqdm(looks, "images", len(paths), unit="image", leave=False, delay=2):
            note(look)
            found.append(look.found)
    return found


class _Look(NamedTuple):
    """What was found at one path, and what the journal is to say of it, if anything."""

    found: Size | str
    state: tuple[str, int, int] | None = None  # path, bytes, time


def _look(path: Path, check: ImageCheck) -> _Look:
    if check.journal is None:
        return _Look(image_size(path, check.decode))
    try:
        stat = path.stat()
    except OSError:
        return _Look(image_size(path, check.decode))
    below = os.path.relpath(path, Path(check.journal).parent)
    state = (below, stat.st_size, stat.st_mtime_ns)
    known = check.sound.get(_key(state))
    if known is not None:
        return _Look(known)
    # A header that can be read says nothing about the pixels, and is not kept.
    return _Look(image_size(path, check.decode), state if check.decode else None)


def _in_order(pool: Executor, work: Callable, items: Iterable, ahead: int) -> Iterator:
    """Results in the order of the items, of which only so many are under way at a time."""
    waiting = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


# The journal


def _key(state: Sequence) -> bytes:
    """A digest of path, bytes and time."""
    text = "\0".join(map(str, state)).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).digest()


def _is_new(path: Path) -> bool:
    """Whether there is no journal, or only the beginning of its header, as a crash may leave it."""
    if not path.exists():
        return True
    with path.open("rb") as journal:
        start = journal.read(len(HEADER))
    return start != HEADER.encode() and HEADER.encode().startswith(start)


def _read_journal(path: Path) -> dict[bytes, Size]:
    if _is_new(path):
        return {}
    sound: dict[bytes, Size] = {}
    sizes: dict[Size, Size] = {}  # many images are of one size: keep it once
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        if lines.readline() != HEADER:
            raise DatasetError([f"{path}: is there already and is no journal of checked images"])
        for line in lines:
            try:
                *state, last = json.loads(line)
            except (ValueError, TypeError):  # torn
                continue
            if isinstance(last, str):
                sound.pop(_key(state), None)
            elif len(state) == 4:
                size = (state.pop(), last)
                sound[_key(state)] = sizes.setdefault(size, size)
    return sound


@contextmanager
def _journal(check: ImageCheck) -> Iterator[Callable[[_Look], None]]:
    """A function that adds what was found to the journal of the check, if it has one."""
    if check.journal is None or not check.decode:
        yield lambda look: None
        return
    path, sound = Path(check.journal), check.sound  # read first: it refuses any other file
    path.parent.mkdir(parents=True, exist_ok=True)
    if _is_new(path):
        path.write_text(HEADER, encoding="utf-8", newline="\n")
    with path.open("rb") as written:
        written.seek(-1, os.SEEK_END)
        torn = written.read() != b"\n"
    with path.open("a", buffering=1, encoding="utf-8", newline="\n") as lines:  # line by line
        if torn:
            lines.write("\n")

        def note(look: _Look) -> None:
            if look.state is None:
                return
            faulty = isinstance(look.found, str)
            last = [look.found] if faulty else look.found
            lines.write(json.dumps([*look.state, *last]) + "\n")
            if not faulty:
                sound[_key(look.state)] = look.found

        yield note
