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
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm.auto import tqdm

from wsol.datasets.faults import DatasetError, Size

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
