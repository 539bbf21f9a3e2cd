"""A background image set on disk: a folder of pictures with a manifest that accounts for each.

``manifest.csv`` has one row per picture, in the order in which "the first n" are taken:

    file     path below the folder
    sha256   of its bytes
    source   where it is from: a URL, or what drew it
    licence  what it may be used under
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from wsol.datasets.faults import DatasetError, parse_path

MANIFEST = "manifest.csv"
COLUMNS = ("file", "sha256", "source", "licence")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def _pictures(folder: Path) -> list[str]:
    """Paths of all pictures below a folder, posix, in the order of their names."""
    found = (p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(folder: str | Path, source: str, licence: str) -> Path:
    """Write the manifest of all pictures below a folder, and return its path.

    One source and one licence for all of them. The same pictures always give the same bytes.
    """
    folder = Path(folder)
    rows = [
        dict(file=name, sha256=_sha256(folder / name), source=source, licence=licence)
        for name in _pictures(folder)
    ]
    path = folder / MANIFEST
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
    return path


def _read_manifest(path: Path) -> pd.DataFrame:
    """The rows of a manifest. Raises DatasetError if it is not one."""
    try:
        table = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise DatasetError([f"{path}: missing file; write_manifest makes one"]) from None
    except ValueError as error:  # not UTF-8, empty, or no table
        raise DatasetError([f"{path}: cannot be read: {error}"]) from error
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise DatasetError([f"{path}:1: the manifest lacks the columns {', '.join(missing)}"])
    return table[list(COLUMNS)]


def _row_fault(folder: Path, row: pd.Series) -> str | None:
    """What is wrong with one row of the manifest, if anything."""
    try:
        parse_path(row["file"])
    except ValueError:
        return f"{row['file']} leads out of the folder"
    blank = [column for column in COLUMNS if not row[column].strip()]
    if blank:
        return f"{row['file'] or 'the row'} has no {', '.join(blank)}"
    path = folder / row["file"]
    if not path.is_file():
        return f"missing image {path}"
    if _sha256(path) != row["sha256"]:
        return f"altered image {path}: its sha256 is not the manifest's"
    return None


def read_background_set(folder: str | Path) -> pd.DataFrame:
    """Columns file, sha256, source, licence of a background set, checked against its files.

    Raises DatasetError with all faults: pictures that are missing, altered, listed twice or not in
    the manifest, and rows without source or licence.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    table = _read_manifest(path)
    faults = []
    for line, (_, row) in enumerate(table.iterrows(), start=2):
        fault = _row_fault(folder, row)
        if fault:
            faults.append(f"{path}:{line}: {fault}")
    twice = table.index[table.duplicated("file")]
    faults += [f"{path}:{i + 2}: duplicate file {table['file'][i]}" for i in twice]
    extra = sorted(set(_pictures(folder)) - set(table["file"]))
    faults += [f"{folder / name}: image that is not in {MANIFEST}" for name in extra]
    if faults:
        raise DatasetError(faults)
    return table


def background_paths(folder: str | Path, n: int | None = None) -> list[Path]:
    """Paths of the first ``n`` pictures of a background set in manifest order, or of all.

    Raises DatasetError if the set is not what its manifest says, ValueError if it has fewer.
    """
    folder = Path(folder)
    files = list(read_background_set(folder)["file"])
    if n is None:
        return [folder / name for name in files]
    if n < 0 or n > len(files):
        raise ValueError(f"{n} background images were asked for; {folder} has {len(files)}")
    return [folder / name for name in files[:n]]
