"""Background pictures from a table of URLs: patient, polite, and resumable at any moment.

The table is a CSV file with the columns url and licence, and source where it is not the URL itself
(the page of the picture, say). The pictures go to a folder of their own, from which
`wsol.datasets.background_build` takes them; beside them `downloads.csv` says of each URL

    url     as in the table
    file    in this folder, "" if it could not be had
    sha256  of its bytes
    reason  why it could not be had, "" if it could

A file has its name only when it is complete and decodes. Started again, it goes on: what is there
with the recorded hash is not fetched again, what failed is tried anew.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
from PIL import Image

from wsol.datasets.background_build import Candidate
from wsol.datasets.backgrounds import file_sha256
from wsol.datasets.faults import DatasetError
from wsol.datasets.journal import append_rows, read_journal
from wsol.datasets.safe_http import Limits, Refused, TryLater, fetch

DOWNLOADS = "downloads.csv"
COLUMNS = ("url", "file", "sha256", "reason")
SUFFIX_OF = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp"}


@dataclass(frozen=True)
class Manners:
    """How pictures are asked for, and which ones are taken."""

    limits: Limits = field(default_factory=Limits)  # of one picture
    max_pixels: int = 50_000_000
    min_side: int = 32  # pixels; below, it is an icon or a counter
    tries: int = 4  # per picture
    back_off: float = 2.0  # seconds before the second try, twice as long before each further one
    longest_wait: float = 60.0  # seconds, even if a server asks for more
    host_interval: float = 1.0  # seconds between two requests to one host


def read_urls(path: str | Path) -> pd.DataFrame:
    """Columns url, source, licence of a table of URLs. Raises DatasetError with all faults."""
    try:
        table = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError([f"{path}: missing file"]) from None
    except ValueError as error:
        raise DatasetError([f"{path}: cannot be read: {error}"]) from error
    missing = [name for name in ("url", "licence") if name not in table.columns]
    if missing:
        raise DatasetError([f"{path}:1: the table lacks the columns {', '.join(missing)}"])
    table = table.apply(lambda column: column.str.strip())
    faults = []
    for line, row in enumerate(table.itertuples(), start=2):
        blank = [name for name in ("url", "licence") if not getattr(row, name)]
        faults += [f"{path}:{line}: no {name}" for name in blank]
    twice = table.index[table.duplicated("url") & table["url"].ne("")]
    faults += [f"{path}:{i + 2}: duplicate url {table['url'][i]}" for i in twice]
    if faults:
        raise DatasetError(faults)
    source = table["source"] if "source" in table.columns else table["url"]
    return table.assign(source=source.where(source != "", table["url"]))[
        ["url", "source", "licence"]
    ]


def check_picture(data: bytes, manners: Manners) -> str:
    """The suffix of a picture that decodes and is of an allowed format and size.

    Raises Refused with the reason if it is not.
    """
    try:
        # The header's size is looked at before any pixel is decoded.
        with Image.open(io.BytesIO(data), formats=list(SUFFIX_OF)) as image:
            width, height = image.size
            if width * height > manners.max_pixels:
                raise Refused(f"{width} x {height} are more than {manners.max_pixels} pixels")
            if min(width, height) < manners.min_side:
                raise Refused(f"{width} x {height} pixels are too few")
            image.load()
            return SUFFIX_OF[image.format]
    except Image.DecompressionBombError as error:
        raise Refused(f"too many pixels: {error}") from error
    except (OSError, SyntaxError) as error:
        known = ", ".join(SUFFIX_OF)
        raise Refused(f"no picture that decodes ({known}): {type(error).__name__}") from error


class _Turns:
    """When each host may be asked again."""

    def __init__(self, interval: float) -> None:
        self.interval, self.next = interval, {}

    def wait(self, url: str) -> None:
        host = urlsplit(url).netloc.lower()
        time.sleep(max(0.0, self.next.get(host, 0.0) - time.monotonic()))
        self.next[host] = time.monotonic() + self.interval


def _fetch_patiently(url: str, manners: Manners, turns: _Turns) -> bytes:
    """The bytes behind a URL, asked for several times if need be. Raises Refused or TryLater."""
    for attempt in range(manners.tries):
        turns.wait(url)
        try:
            return fetch(url, manners.limits, attempt)
        except TryLater as error:
            if attempt + 1 == manners.tries:
                raise TryLater(f"{error} ({manners.tries} tries)") from error
            wait = max(error.seconds, manners.back_off * 2**attempt)
            time.sleep(min(wait, manners.longest_wait))
    raise ValueError(f"tries is {manners.tries}; it must be at least 1")


def _store(data: bytes, url: str, suffix: str, folder: Path) -> str:
    """Write a picture under the name that its URL always gives; return the name."""
    name = hashlib.sha256(url.encode()).hexdigest()[:20] + suffix
    partial = folder / f"{name}.part"
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, folder / name)
    return name


def _download(url: str, folder: Path, manners: Manners, turns: _Turns) -> dict[str, str]:
    """Fetch one picture; its row of `downloads.csv`, with the reason if it could not be had."""
    row = dict.fromkeys(COLUMNS, "") | {"url": url}
    try:
        data = _fetch_patiently(url, manners, turns)
        row["file"] = _store(data, url, check_picture(data, manners), folder)
    except (Refused, TryLater) as error:
        return row | {"reason": " ".join(str(error).split())}
    return row | {"sha256": hashlib.sha256(data).hexdigest()}


def _is_there(row: dict[str, str] | None, folder: Path) -> bool:
    if row is None or not row["file"] or not (folder / row["file"]).is_file():
        return False
    return file_sha256(folder / row["file"]) == row["sha256"]


def _rows(urls: list[str], folder: Path, manners: Manners) -> Iterator[dict[str, str]]:
    """One row per URL, written down as soon as it is known."""
    known = read_journal(folder / DOWNLOADS, COLUMNS, "url")
    turns = _Turns(manners.host_interval)
    for url in urls:
        row = known.get(url)
        if not _is_there(row, folder):
            row = _download(url, folder, manners, turns)
            append_rows(folder / DOWNLOADS, COLUMNS, [row])
        yield row


def download(
    urls: pd.DataFrame, folder: str | Path, manners: Manners | None = None
) -> tuple[list[Candidate], pd.DataFrame]:
    """Fetch pictures into `folder`; what can be had, and a table of what cannot.

    urls : columns url, source, licence, see `read_urls`

    The second table has the columns url and reason; a picture that fails does not stop the others.
    """
    folder, manners = Path(folder), manners or Manners()
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.part"):  # of a process that was killed
        left.unlink()
    rows = list(_rows(list(urls["url"]), folder, manners))
    had = [
        Candidate(folder / row["file"], f"web/{row['file']}", about.source, about.licence)
        for row, about in zip(rows, urls.itertuples(), strict=True)
        if row["file"]
    ]
    failed = [(row["url"], row["reason"]) for row in rows if not row["file"]]
    return had, pd.DataFrame(failed, columns=["url", "reason"])
