"""A background image set on disk: a folder of images with a manifest of all of them.

``manifest.csv`` has one row per image, in the order in which "the first n" are taken:

    file     path below the folder
    sha256   of its bytes
    source   where it is from: a URL, or what drew it
    licence  what it may be used under

and, once somebody has looked at them (a missing column is the same as an empty one):

    phash    perceptual hash, hexadecimal, see `wsol.datasets.backgrounds.copies`
    score    how much the image looks as if it contained the object, see `wsol.inference.audit`
    decision "" (none), "keep" or "drop"; a dropped image stays on disk and is not used
    note     why
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from wsol.datasets.checks import OUTSIDE, DatasetError, raise_errors, report
from wsol.datasets.files import file_sha256, read_csv, write_table
from wsol.datasets.image_files import list_images
from wsol.datasets.images import load_images

MANIFEST = "manifest.csv"
COLUMNS = ("file", "sha256", "source", "licence")
EXTRAS = ("phash", "score", "decision", "note")
DECISIONS = ("", "keep", "drop")


def _image_names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in list_images(folder))


def write_rows(folder: Path, table: pd.DataFrame) -> Path:
    """Write the rows of a manifest, and return its path.

    Extra columns that are empty from top to bottom are left out.
    """
    extras = [name for name in EXTRAS if name in table.columns and (table[name] != "").any()]
    write_table(table[[*COLUMNS, *extras]], folder / MANIFEST)
    return folder / MANIFEST


def earlier_extras(folder: Path) -> dict[str, dict[str, str]]:
    """What an earlier manifest says beyond its `COLUMNS`, by sha256; nothing without one.

    Raises DatasetError if there is a manifest that cannot be read.
    """
    if not (folder / MANIFEST).is_file():
        return {}
    table = read_table(folder / MANIFEST)
    if "sha256" not in table.columns:
        return {}
    said = [name for name in EXTRAS if name in table.columns]
    rows = table[table[said].ne("").any(axis=1)] if said else table[:0]
    return {sha: dict(zip(said, row, strict=True)) for sha, *row in rows[["sha256", *said]].values}


def write_manifest(folder: str | Path, source: str, licence: str) -> Path:
    """Write the manifest of all images below a folder, and return its path.

    One source and one licence for all of them. The same images always give the same bytes. What
    an earlier manifest says about scores and decisions stays with the bytes it was said of. Raises
    DatasetError if there is an earlier manifest that cannot be read.
    """
    folder = Path(folder)
    extras, blank = earlier_extras(folder), dict.fromkeys(EXTRAS, "")
    rows = []
    for name in _image_names(folder):
        sha256 = file_sha256(folder / name)
        row = dict(file=name, sha256=sha256, source=source, licence=licence)
        rows.append(blank | row | extras.get(sha256, {}))
    return write_rows(folder, pd.DataFrame(rows, columns=[*COLUMNS, *EXTRAS], dtype="str"))


def read_table(path: Path) -> pd.DataFrame:
    """A manifest as text, whatever its columns. Raises DatasetError if it is no table."""
    try:
        return read_csv(path)
    except FileNotFoundError:
        raise DatasetError([f"{path}: missing file; `wsol background folder` makes one"]) from None
    except ValueError as error:
        raise DatasetError([str(error)]) from error


def _rows_of(path: Path) -> pd.DataFrame:
    table = read_table(path)
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise DatasetError([f"{path}:1: the manifest lacks the columns {', '.join(missing)}"])
    return table.reindex(columns=[*COLUMNS, *EXTRAS], fill_value="")


def _difference(path: Path, sha256: str) -> str | None:
    if not path.is_file():
        return f"missing image {path}"
    altered = f"altered image {path}: its sha256 is not the manifest's"
    return altered if file_sha256(path) != sha256 else None


def read_manifest(folder: str | Path) -> pd.DataFrame:
    """All rows of a background set with `COLUMNS` and `EXTRAS`, checked against its files.

    Dropped images are among them. Raises DatasetError with all errors: images that are missing,
    altered, listed twice or not in the manifest, rows without source or licence, and unknown
    decisions.
    """
    folder, errors = Path(folder), []
    path = folder / MANIFEST
    table = _rows_of(path)
    rows = table.assign(where=[f"{path}:{i + 2}" for i in table.index])
    outside = rows["file"].str.contains(OUTSIDE)
    report(rows[outside], "{file} leads out of the folder", errors)
    good = ~outside
    for column in COLUMNS:
        blank = rows[column].str.strip() == ""
        report(rows[blank & ~outside], f"{{file}} has no {column}", errors)
        good &= ~blank
    unknown = ~rows["decision"].isin(DECISIONS)
    report(rows[unknown], "{file} has the decision {decision!r}; known: keep, drop or none", errors)
    rows = rows[good & ~unknown]
    pairs = zip(rows["file"], rows["sha256"], strict=True)
    different = rows.assign(difference=[_difference(folder / file, sha) for file, sha in pairs])
    report(different.dropna(subset="difference"), "{difference}", errors)
    report(rows[rows.duplicated("file")], "duplicate file {file}", errors)
    extra = sorted(set(_image_names(folder)) - set(table["file"]))
    errors += [f"{folder / name}: image that is not in {MANIFEST}" for name in extra]
    raise_errors(errors)
    return table


def read_background_set(folder: str | Path) -> pd.DataFrame:
    """Columns file, sha256, source, licence of the images in use: all that are not dropped.

    Raises DatasetError as `read_manifest` does.
    """
    table = read_manifest(folder)
    return table.loc[table["decision"] != "drop", list(COLUMNS)].reset_index(drop=True)


def record(folder: str | Path, values: Mapping[str, Mapping[str, str]]) -> Path:
    """Write values for images, by file and extra column, into the manifest.

    `record(folder, {"a.jpg": {"decision": "drop", "note": "a wren in the hedge"}})`. The rest
    stays. Raises ValueError if a file is not in the set or a decision is none.
    """
    folder = Path(folder)
    table = read_manifest(folder).set_index("file", drop=False)
    unknown = sorted(set(values) - set(table.index))
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not in the background set {folder}")
    for file, entries in values.items():
        decision = entries.get("decision", "")
        if decision not in DECISIONS or not set(entries) <= set(EXTRAS):
            raise ValueError(f"{file}: {dict(entries)} is not one of {EXTRAS}, keep or drop")
        for name, value in entries.items():
            table.loc[file, name] = value
    return write_rows(folder, table)


def decide(
    folder: str | Path, drop: Sequence[str] = (), keep: Sequence[str] = (), note: str = ""
) -> Path:
    """Write down that files of a background set are not to be used, or are to be.

    Raises ValueError if a file is not in the set, or is both.
    """
    both = sorted(set(drop) & set(keep))
    if both:
        raise ValueError(f"{', '.join(both)}: to be dropped and to be kept")
    why = {"note": note} if note else {}
    said = {file: {"decision": "drop"} | why for file in drop}
    return record(folder, said | {file: {"decision": "keep"} | why for file in keep})


def background_paths(folder: str | Path, n: int | None = None) -> list[Path]:
    """Paths of the first ``n`` images in use of a background set in manifest order, or of all.

    Raises DatasetError if the set is not what its manifest says, ValueError if it has fewer.
    """
    folder = Path(folder)
    files = list(read_background_set(folder)["file"])
    if n is not None and not 0 <= n <= len(files):
        raise ValueError(f"{n} background images were asked for; {folder} has {len(files)}")
    return [folder / name for name in files[:n]]


def load_background(root: str | Path, n: int | None, size: int) -> Tensor:
    """The first n images, or all, of the background set root/background, (n, 3, size, size)."""
    return load_images(background_paths(Path(root) / "background", n), size)
