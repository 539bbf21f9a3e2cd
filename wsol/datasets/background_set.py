"""Make, check and audit a background image set.

    python -m wsol.datasets.background_set folder OUT PICTURES --source TEXT --licence TEXT
    python -m wsol.datasets.background_set urls   OUT TABLE.csv
    python -m wsol.datasets.background_set sample OUT DATA_SET --kind places365 --include "field*"
    python -m wsol.datasets.background_set check  OUT --data data/cub
    python -m wsol.datasets.background_set audit  OUT runs/train/cam-0
    python -m wsol.datasets.background_set decide OUT --drop FILE ... --keep FILE ...

The first three build; with --data they leave out what is also in the data set, with --add or
--replace they may find a set in OUT, and what was decided about its pictures stays.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from wsol import project_root
from wsol.datasets.backgrounds.build import (
    Candidate,
    DataSet,
    build_background_set,
    from_folder,
    from_set,
)
from wsol.datasets.backgrounds.copies import DISTANCE, hash_files, leakage
from wsol.datasets.backgrounds.manifest import (
    decide,
    file_sha256,
    read_background_set,
    read_manifest,
)
from wsol.datasets.backgrounds.scenes import KNOWN, Rule, sample_scenes
from wsol.datasets.backgrounds.web import Limits, Manners, download, read_urls
from wsol.datasets.index import INDEX, read_index

FAILED = "failed.csv"  # beside the downloads


def _data_set(folder: Path, cache: Path | None) -> DataSet:
    """The data set of a prepared folder; its hashes go below runs/, which is nobody's data."""
    root = folder.resolve()
    cache = cache or project_root() / "runs" / "image_hashes" / f"{root.name}.csv"
    return DataSet(read_index(folder / INDEX), root, cache)


def _fetched(given: argparse.Namespace) -> list[Candidate]:
    """Pictures of a table of URLs; what failed is printed and written down."""
    limits = Limits(max_bytes=given.max_bytes, allowed_networks=tuple(given.allow_network))
    manners = Manners(limits, tries=given.tries, host_interval=given.interval)
    folder = given.downloads or given.out.with_name(given.out.name + ".downloads")
    found, failed = download(read_urls(given.table), folder, manners)
    failed.to_csv(folder / FAILED, index=False, lineterminator="\n", encoding="utf-8")
    for row in failed.itertuples():
        print(f"failed: {row.url}: {row.reason}")
    print(f"{len(found)} pictures fetched or there, {len(failed)} failed")
    return found


def _candidates(given: argparse.Namespace) -> list[Candidate]:
    """The pictures that a command names."""
    if given.command == "folder":
        return from_folder(given.pictures, given.source, given.licence, given.below)
    if given.command == "urls":
        return _fetched(given)
    sizes = dict(per_category=given.per_category, total=given.total, seed=given.seed)
    rule = Rule(tuple(given.include), tuple(given.exclude), **sizes)
    return sample_scenes(given.root, given.kind, rule, given.source, given.licence)


def _added(out: Path, new: list[Candidate]) -> list[Candidate]:
    """The pictures of the set in OUT, and the new ones that are not these under the same name."""
    earlier = from_set(out)
    there = {one.file: one.path for one in earlier}
    return earlier + [
        one
        for one in new
        if one.file not in there or file_sha256(there[one.file]) != file_sha256(one.path)
    ]


def _show(left_out: pd.DataFrame) -> None:
    """One line per picture that is a copy."""
    for row in left_out.itertuples():
        of = f" of {row.split} {row.of}".replace("  ", " ") if row.of else ""
        print(f"{row.file}: {row.reason}{of}, {row.distance} bits")


def _build(given: argparse.Namespace) -> int:
    data = _data_set(given.data, given.cache) if given.data else None
    new = _candidates(given)
    left_out = build_background_set(
        _added(given.out, new) if given.add and given.out.exists() else new,
        given.out,
        data=data,
        distance=given.distance,
        replace=given.replace or given.add,
    )
    _show(left_out)
    print(f"{len(read_background_set(given.out))} background images, {len(left_out)} left out")
    return 0


def _check(given: argparse.Namespace) -> int:
    """Check the set against its manifest and, with --data, for leakage."""
    rows = read_manifest(given.out)
    used = rows[rows["decision"] != "drop"]
    print(f"{len(used)} background images in use, {len(rows) - len(used)} dropped")
    if not given.data:
        return 0
    data = _data_set(given.data, given.cache)
    hashes = hash_files([given.out / file for file in used["file"]])
    files = list(used["file"])
    leaks = leakage(files, hashes, data.index, data.root, given.distance, data.cache)
    _show(leaks)
    print(f"{len(leaks)} of them are copies of the {len(data.index)} images of {given.data}")
    if given.drop and len(leaks):
        for row in leaks.itertuples():
            decide(given.out, drop=[row.file], note=f"{row.reason} of {row.split} {row.of}")
        print("dropped, with that note in the manifest")
        return 0
    return 1 if len(leaks) else 0


def _audit(given: argparse.Namespace) -> int:
    """Rank the pictures, and print the first ones."""
    from wsol.inference.audit import audit

    ranked = audit(given.out, given.run, given.score)
    for row in ranked.head(given.first).itertuples():
        print(f"{row.score:10.4g}  {row.file}" + f"  ({row.decision})" * bool(row.decision))
    print(f"{len(ranked)} pictures ranked by {ranked.attrs['score']}; look at the first ones")
    return 0


def _decide(given: argparse.Namespace) -> int:
    """Write down what a person saw."""
    decide(given.out, given.drop, given.keep, given.note)
    print(f"{len(read_background_set(given.out))} background images in use")
    return 0


def _add_sources(commands: argparse._SubParsersAction, common: list) -> None:
    """The three commands that build."""
    facts = argparse.ArgumentParser(add_help=False)
    facts.add_argument("--source", default="", help="where all the pictures are from")
    facts.add_argument("--licence", default="", help="what they may be used under")
    build = argparse.ArgumentParser(add_help=False)
    there = build.add_mutually_exclusive_group()
    there.add_argument("--add", action="store_true", help="to the pictures that are in OUT")
    there.add_argument("--replace", action="store_true", help="the set that is in OUT")
    folder = commands.add_parser("folder", parents=[*common, facts, build], help="all in it")
    folder.add_argument("pictures", type=Path)
    folder.add_argument("--below", default="", help="folder in OUT where they go")
    urls = commands.add_parser("urls", parents=[*common, build], help="a table of URLs")
    urls.add_argument("table", type=Path, help="CSV with the columns url, licence and source")
    urls.add_argument("--downloads", type=Path, help="folder of the files; OUT.downloads")
    urls.add_argument("--max-bytes", type=int, default=Limits.max_bytes, help="of a picture")
    urls.add_argument("--tries", type=int, default=Manners.tries, help="per picture")
    urls.add_argument("--interval", type=float, default=Manners.host_interval, help="seconds")
    urls.add_argument("--allow-network", nargs="+", default=[], help="not public, as 10.1.0.0/16")
    sample = commands.add_parser("sample", parents=[*common, facts, build], help="of scenes")
    sample.add_argument("root", type=Path, help="folder of the data set")
    sample.add_argument("--kind", choices=KNOWN, required=True)
    sample.add_argument("--include", nargs="+", default=["*"], help="patterns of categories")
    sample.add_argument("--exclude", nargs="+", default=[], help="patterns of categories")
    sample.add_argument("--per-category", type=int, help="pictures at most")
    sample.add_argument("--total", type=int, help="pictures at most")
    sample.add_argument("--seed", type=int, default=0)
    for command in (folder, urls, sample):
        command.set_defaults(act=_build)


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m wsol.datasets.background_set", description="Make a background image set."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    out = argparse.ArgumentParser(add_help=False)
    out.add_argument("out", metavar="OUT", type=Path, help="folder of the background set")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data", type=Path, help="prepared data set to look for copies in")
    data.add_argument("--cache", type=Path, help="its hashes; runs/image_hashes/NAME.csv")
    data.add_argument("--distance", type=int, default=DISTANCE, help="bits of near copies")
    _add_sources(commands, [out, data])
    check = commands.add_parser("check", parents=[out, data], help="the manifest, and leakage")
    check.add_argument("--drop", action="store_true", help="what is also in the data set")
    check.set_defaults(act=_check)
    audit = commands.add_parser("audit", parents=[out], help="rank by a trained run")
    audit.add_argument("run", type=Path)
    audit.add_argument("--score", default="", help="by default what the run has")
    audit.add_argument("--first", type=int, default=20, help="pictures to print")
    audit.set_defaults(act=_audit)
    decide = commands.add_parser("decide", parents=[out], help="what a person saw")
    decide.add_argument("--drop", nargs="+", default=[], metavar="FILE")
    decide.add_argument("--keep", nargs="+", default=[], metavar="FILE")
    decide.add_argument("--note", default="", help="why")
    decide.set_defaults(act=_decide)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says; 1 if there is something wrong."""
    given = parse_arguments(words)
    try:
        return given.act(given)
    except (ValueError, OSError) as error:  # of what was given, and they say what is wrong
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
