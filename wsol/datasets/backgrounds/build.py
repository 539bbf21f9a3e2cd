"""Build and check a background set: images copied into one folder, each once, with a manifest.

`from_folder`, `scenes.sample_scenes`, `web.download` and `from_set` each give a list of
`Candidate`. Copies of an earlier image, or of an image of the data set, are left out and reported.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from wsol import project_root
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
    decide,
    earlier_extras,
    read_manifest,
    read_table,
    write_rows,
)
from wsol.datasets.checks import OUTSIDE, DatasetError, raise_errors
from wsol.datasets.files import MADE, file_sha256, read_csv, written_folder
from wsol.datasets.image_files import list_images
from wsol.datasets.index import INDEX, read_index

GONE = "gone, and its decision with it"  # reason of an image of the earlier set


class Candidate(NamedTuple):
    """An image that may enter the set."""

    path: Path  # where it lies now
    file: str  # where it goes, below the set's folder
    source: str
    licence: str


class DataSet(NamedTuple):
    """The images that a background set must not contain."""

    index: pd.DataFrame  # index table
    root: Path  # what its paths start from
    memo: Path | None = None  # file that keeps its hashes


def from_folder(folder: str | Path, source: str, licence: str, below: str = "") -> list[Candidate]:
    """All images below a folder, by name; they go to `below` in the set.

    Raises DatasetError if there are none, ValueError if source or licence is blank.
    """
    folder = Path(folder)
    if not (source.strip() and licence.strip()):
        raise ValueError("the manifest needs a source and a licence of every image")
    images = list_images(folder)
    if not images:
        reason = "no image in it" if folder.is_dir() else "missing folder"
        raise DatasetError([f"{folder}: {reason}"])
    files = [(Path(below) / path.relative_to(folder)).as_posix() for path in images]
    return [Candidate(*pair, source, licence) for pair in zip(images, files, strict=True)]


def from_set(folder: str | Path) -> list[Candidate]:
    """All images of a background set, those that are dropped included."""
    rows = read_manifest(folder)[["file", "source", "licence"]].to_numpy()
    return [Candidate(Path(folder) / row[0], *row) for row in rows]


def _added(out: Path, new: Sequence[Candidate]) -> list[Candidate]:
    earlier = from_set(out)
    there = {(one.file, file_sha256(one.path)) for one in earlier}
    return earlier + [one for one in new if (one.file, file_sha256(one.path)) not in there]


def _left_out(
    candidates: Sequence[Candidate],
    hashes: Sequence[ImageHash],
    decided: set[str],
    data: DataSet | None,
    distance: int,
) -> pd.DataFrame:
    """Copies among the candidates and, of what remains, copies of the data set's images.

    Images with a decision come before their copies, so that the decision is kept.
    """
    pairs = [(one.file, its) for one, its in zip(candidates, hashes, strict=True)]
    pairs.sort(key=lambda pair: pair[1].sha256 not in decided)
    copies = copies_within([file for file, _ in pairs], [its for _, its in pairs], distance)
    if data is None:
        return copies
    gone = set(copies["file"])
    rest = {file: its for file, its in pairs if file not in gone}
    leaks = leakage(list(rest), list(rest.values()), data.index, data.root, distance, data.memo)
    return pd.concat([copies, leaks], ignore_index=True)


def _write(
    rows: list[tuple[Candidate, ImageHash]], extras: dict[str, dict[str, str]], folder: Path
) -> None:
    blank, table = dict.fromkeys(EXTRAS, ""), []
    for one, hashes in rows:
        target = folder / one.file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(one.path, target)
        own = dict(file=one.file, sha256=hashes.sha256, source=one.source, licence=one.licence)
        table.append(blank | own | extras.get(hashes.sha256, {}) | {"phash": hashes.phash})
    write_rows(folder, pd.DataFrame(table, columns=[*COLUMNS, *EXTRAS], dtype="str"))


def _refuse(candidates: Sequence[Candidate], out: Path, replace: bool) -> None:
    if not candidates:
        raise ValueError("there is no image to build a background set of")
    names = pd.Series([one.file for one in candidates])
    outside = names[names.str.contains(OUTSIDE)]
    raise_errors([f"{name}: leads out of the folder of the set" for name in outside])
    twice = names[names.duplicated()].unique()
    if len(twice):
        raise DatasetError([f"{name}: two images would get this name" for name in twice])
    there = out.exists() and any(out.iterdir())
    if there and not (replace and (out / MANIFEST).is_file()):
        raise FileExistsError(f"{out} is there already: remove it, or name another folder")


def _holds_copies(out: Path) -> bool:
    """Whether all files of a set are copies that `_write` made: a manifest alone is no proof.

    `write_manifest`, which describes the images of others where they are, writes no hash.
    """
    if not (out / MANIFEST).is_file():
        return False
    rows = read_table(out / MANIFEST).reindex(columns=["file", "sha256", "phash"], fill_value="")
    known = dict(zip(rows["file"], rows["sha256"], strict=True))
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if not path.is_dir()}
    others = files.keys() - {MANIFEST, MADE, ".DS_Store", "Thumbs.db"}
    return rows["phash"].ne("").all() and all(
        name in known and file_sha256(files[name]) == known[name] for name in others
    )


def build_background_set(
    candidates: Sequence[Candidate],
    out: str | Path,
    *,
    data: DataSet | None = None,
    distance: int = DISTANCE,
    add: bool = False,
    replace: bool = False,
) -> pd.DataFrame:
    """Copy images into `out` with a manifest; return what was left out, and why.

    Parameters
    ----------
    candidates : images, of copies the first is kept
    data : data set whose images must not be in it
    distance : bits up to which images are near copies
    add : keep the images of an earlier set in `out`, before the candidates
    replace : an earlier set in `out` is replaced when the new one is complete. Scores and
        decisions of its manifest are kept for images of the same bytes.

    The table is that of `wsol.datasets.backgrounds.copies`. Raises FileExistsError if `out` holds
    anything but a set to be replaced, DatasetError with all images that do not decode.
    """
    out = Path(out)
    with written_folder(out, _holds_copies) as partial:
        if add and out.exists():
            candidates = _added(out, candidates)
        _refuse(candidates, out, replace or add)
        extras = earlier_extras(out)
        hashes = hash_files([one.path for one in candidates])
        decided = {sha256 for sha256, said in extras.items() if said.get("decision")}
        left_out = _left_out(candidates, hashes, decided, data, distance)
        gone = set(left_out["file"])
        pairs = zip(candidates, hashes, strict=True)
        rows = [(one, its) for one, its in pairs if one.file not in gone]
        if not rows:
            raise ValueError("nothing is left: every image is a copy of an image of the data set")
        lost = _lost(out, decided - {its.sha256 for _, its in rows})
        _write(rows, extras, partial)
    return pd.concat([left_out, lost], ignore_index=True) if len(lost) else left_out


def _lost(out: Path, sha256s: set[str]) -> pd.DataFrame:
    if not sha256s:
        return table_of([])
    earlier = read_csv(out / MANIFEST)
    gone = earlier.loc[earlier["sha256"].isin(sha256s), "file"]
    return table_of([(file, GONE, "", "", 0) for file in gone])


def prepared_data(folder: str | Path, memo: Path | None = None) -> DataSet:
    """The data set of a prepared folder; its hashes are kept below runs/ unless `memo` is given."""
    root = Path(folder).resolve()
    memo = memo or project_root() / "runs" / "image_hashes" / f"{root.name}.sqlite"
    return DataSet(read_index(root / INDEX), root, memo)


def check_background_set(
    out: str | Path, data: DataSet | None = None, distance: int = DISTANCE, drop: bool = False
) -> pd.DataFrame:
    """Check a set against its manifest; return the images in use that are copies of the data set's.

    With `drop` they are dropped, with a note in the manifest. Raises DatasetError if the set is not
    what its manifest says.
    """
    rows = read_manifest(out)
    files = list(rows.loc[rows["decision"] != "drop", "file"])
    if data is None:
        return table_of([])
    hashes = hash_files([Path(out) / file for file in files])
    leaks = leakage(files, hashes, data.index, data.root, distance, data.memo)
    for row in leaks.itertuples() if drop else ():
        decide(out, drop=[row.file], note=f"{row.reason} of {row.split} {row.of}")
    return leaks


def copy_lines(table: pd.DataFrame) -> list[str]:
    """One line of text per row of a table of copies."""
    lines = []
    for row in table.itertuples():
        of = " ".join(filter(None, (row.split, row.of)))
        lines.append(f"{row.file}: {row.reason}{f' of {of}' if of else ''}, {row.distance} bits")
    return lines
