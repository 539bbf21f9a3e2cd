"""Whether an archive is the one that its authors published, by its size and its MD5.

The MD5 of an archive that has not changed is not worked out again (138 GB take minutes): it is kept
in a small file elsewhere, with the archive's size and time. MD5 tells a damaged download; it is no
defence against a forged archive, which `archives` is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from tqdm.auto import tqdm

from wsol.datasets.faults import DatasetError
from wsol.datasets.sources import Source

CHUNK = 2**20  # bytes read at a time


def md5_of(path: Path, memory: Path | None = None) -> str:
    """MD5 of a file, in hexadecimal, with a progress bar if it takes long.

    `memory` is the file that keeps what was worked out, written anew after each file.
    """
    stat = path.stat()
    state = [stat.st_size, stat.st_mtime_ns]
    kept = _kept(memory)
    entry = kept.get(os.path.abspath(path))
    if entry and entry[:2] == state:
        return entry[2]
    digest = hashlib.md5(usedforsecurity=False)
    bar = tqdm(desc=path.name, total=stat.st_size, unit="B", unit_scale=True, delay=2, leave=False)
    with path.open("rb") as file, bar:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    if memory is not None:
        _keep(memory, kept | {os.path.abspath(path): [*state, digest.hexdigest()]})
    return digest.hexdigest()


def _kept(memory: Path | None) -> dict[str, list]:
    """What was worked out before; nothing if the file is not what was written here."""
    try:
        content = json.loads(memory.read_text(encoding="utf-8")) if memory else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _keep(memory: Path, content: dict[str, list]) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    partial = memory.with_name(memory.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8", newline="\n")
    partial.replace(memory)


def read_checksums(path: Path) -> dict[str, str]:
    """MD5 by file name, of a file as md5sum writes it: '<32 hexadecimal digits>  <name>'.

    Raises DatasetError with all lines that are not of this form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError([f"{path}: cannot be read: {error}"]) from error
    found, faults = {}, []
    for number, line in enumerate(filter(str.strip, lines), start=1):
        digest, _, name = line.strip().partition(" ")
        if len(digest) != 32 or set(digest.lower()) - set("0123456789abcdef") or not name.strip():
            faults.append(f"{path}:{number}: malformed line {line!r}, expected '<MD5>  <name>'")
        found[name.strip().removeprefix("*")] = digest.lower()
    if faults:
        raise DatasetError(faults)
    return found


def check_archives(
    folder: Path,
    sources: Mapping[str, Source],
    memory: Path | None = None,
    checksums: Path | None = None,
) -> list[Path]:
    """The archives of a data set that are in a folder, each of which is what it should be.

    sources : published archives by name, see `sources.published`
    memory : file that keeps the MD5s that were worked out
    checksums : file of other MD5s that they must have instead of the published ones

    Raises DatasetError with every archive that is another, with what was expected and what found.
    """
    present = [folder / name for name in sources if (folder / name).is_file()]
    sizes = {} if checksums else {name: source.size for name, source in sources.items()}
    expected = {name: source.md5 for name, source in sources.items()}
    if checksums is not None:
        expected = read_checksums(checksums)
    faults = list(_faults(present, sizes, expected, memory))
    if faults:
        raise DatasetError(faults)
    return present


def _faults(
    present: Iterable[Path],
    sizes: Mapping[str, int | None],
    expected: Mapping[str, str],
    memory: Path | None,
) -> Iterable[str]:
    for path in present:
        size, md5 = sizes.get(path.name), expected.get(path.name)
        if md5 is None:
            yield f"{path}: its checksum is unknown, so that it cannot be told to be whole"
        elif size not in (None, path.stat().st_size):
            yield f"{path}: has {path.stat().st_size:,} bytes, and {size:,} are published"
        elif (found := md5_of(path, memory)) != md5:
            yield f"{path}: has the MD5 {found}, and {md5} was expected: download it again"
