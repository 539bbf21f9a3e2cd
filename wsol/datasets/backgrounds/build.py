"""Building a background image set: pictures copied into one folder, each once, with a manifest.

Where the pictures come from is somebody else's: `from_folder` here, `wsol.datasets.backgrounds.scenes`,
`wsol.datasets.backgrounds.web` and an earlier set all give a list of `Candidate`. What is a copy of an
earlier picture, or of an image of the data set, is left out and reported.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from wsol.datasets.backgrounds.copies import (
    DISTANCE,
    ImageHash,
    copies_within,
    hash_files,
    leakage,
    table_of,
)
from wsol.datasets.backgrounds.manifest import (
    COLUMNS,
    EXTRAS,
    MANIFEST,
    earlier_extras,
    read_manifest,
    write_rows,
)
from wsol.datasets.checks import DatasetError
from wsol.datasets.images import pictures_below

GONE = "gone, and what was said of it"  # reason of a picture of the earlier set


class Candidate(NamedTuple):
    """A picture that may enter the set."""

    path: Path  # where it lies now
    file: str  # where it goes, below the set's folder
    source: str
    licence: str


class DataSet(NamedTuple):
    """The images that a background set must not contain."""

    index: pd.DataFrame  # index table
    root: Path  # what its paths start from
    cache: Path | None = None  # file of its hashes, see `image_hashes.hash_files`


def from_folder(folder: str | Path, source: str, licence: str, below: str = "") -> list[Candidate]:
    """All pictures below a folder, by name; they go to `below` in the set.

    Raises DatasetError if there are none, ValueError if source or licence is blank.
    """
    folder = Path(folder)
    if not (source.strip() and licence.strip()):
        raise ValueError("the manifest needs a source and a licence of every picture")
    pictures = pictures_below(folder)
    if not pictures:
        raise DatasetError([f"{folder}: no picture in it"])
    names = [(Path(below) / path.relative_to(folder)).as_posix() for path in pictures]
    return [Candidate(p, name, source, licence) for p, name in zip(pictures, names, strict=True)]


def from_set(folder: str | Path) -> list[Candidate]:
    """All pictures of a background set, those that are dropped included."""
    rows = read_manifest(folder)
    return [
        Candidate(Path(folder) / row.file, row.file, row.source, row.licence)
        for row in rows.itertuples()
    ]


def _left_out(
    candidates: Sequence[Candidate],
    hashes: Sequence[ImageHash],
    decided: set[str],
    data: DataSet | None,
    distance: int,
) -> pd.DataFrame:
    """Copies among the candidates and, of what remains, copies of the data set's images.

    A picture that somebody decided about comes before its copies, so that the decision stands.
    """
    order = sorted(range(len(hashes)), key=lambda i: hashes[i].sha256 not in decided)
    files = [candidates[i].file for i in order]
    ordered = [hashes[i] for i in order]
    copies = copies_within(files, ordered, distance)
    if data is None:
        return copies
    gone = set(copies["file"])
    kept = [i for i, file in enumerate(files) if file not in gone]
    rest = [files[i] for i in kept], [ordered[i] for i in kept]
    leaks = leakage(*rest, data.index, data.root, distance, data.cache)
    return pd.concat([copies, leaks], ignore_index=True)


def _write(
    rows: list[tuple[Candidate, ImageHash]], extras: dict[str, dict[str, str]], folder: Path
) -> None:
    """Copy pictures into a folder and write their manifest."""
    folder.mkdir(parents=True)
    blank, table = dict.fromkeys(EXTRAS, ""), []
    for one, hashes in rows:
        target = folder / one.file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(one.path, target)
        own = dict(file=one.file, sha256=hashes.sha256, source=one.source, licence=one.licence)
        table.append(blank | own | extras.get(hashes.sha256, {}) | {"phash": hashes.phash})
    write_rows(folder, pd.DataFrame(table, columns=[*COLUMNS, *EXTRAS], dtype="str"))


def _refuse(candidates: Sequence[Candidate], out: Path, replace: bool) -> None:
    """Raise for what cannot be built, before anything is read."""
    if not candidates:
        raise ValueError("there is no picture to build a background set of")
    names = pd.Series([one.file for one in candidates])
    twice = names[names.duplicated()].unique()
    if len(twice):
        raise DatasetError([f"{name}: two pictures would get this name" for name in twice])
    there = out.exists() and any(out.iterdir())
    if there and not (replace and (out / MANIFEST).is_file()):
        raise FileExistsError(f"{out} is there already: remove it, or name another folder")


def build_background_set(
    candidates: Sequence[Candidate],
    out: str | Path,
    *,
    data: DataSet | None = None,
    distance: int = DISTANCE,
    replace: bool = False,
) -> pd.DataFrame:
    """Copy pictures into `out` with a manifest; return what was left out, and why.

    Parameters
    ----------
    candidates : pictures, of copies the first is kept
    data : data set whose images must not be in it
    distance : bits up to which pictures are near copies
    replace : an earlier set in `out` makes way, and only when the new one is complete. What its
        manifest says about scores and decisions stays with the bytes it was said of.

    The table is that of `wsol.datasets.backgrounds.copies`. Raises FileExistsError if `out` holds anything
    but a set to be replaced, DatasetError with all pictures that do not decode.
    """
    out = Path(out)
    _refuse(candidates, out, replace)
    extras = earlier_extras(out)
    hashes = hash_files([one.path for one in candidates])
    decided = {sha256 for sha256, said in extras.items() if said.get("decision")}
    left_out = _left_out(candidates, hashes, decided, data, distance)
    gone = set(left_out["file"])
    rows = [(one, its) for one, its in zip(candidates, hashes, strict=True) if one.file not in gone]
    if not rows:
        raise ValueError("nothing is left: every picture is a copy of an image of the data set")
    lost = _lost(out, decided - {its.sha256 for _, its in rows})
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    _write(rows, extras, partial)
    _swap(partial, out)
    return pd.concat([left_out, lost], ignore_index=True) if len(lost) else left_out


def _swap(new: Path, out: Path) -> None:
    """Put a folder in the place of another; at no moment are both gone."""
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _lost(out: Path, sha256s: set[str]) -> pd.DataFrame:
    """Pictures of the earlier set that a decision was about and that are not in the new one."""
    if not sha256s:
        return table_of([])
    earlier = pd.read_csv(out / MANIFEST, dtype="str", keep_default_na=False)
    gone = earlier.loc[earlier["sha256"].isin(sha256s), "file"]
    return table_of([(file, GONE, "", "", 0) for file in gone])
