"""The commands ``wsol prepare`` and ``wsol background``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
from click.core import ParameterSource

FOLDER = click.Path(file_okay=False, path_type=Path)
ANY = click.Path(path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
DATA_SETS = ("cub", "ilsvrc", "openimages", "pets", "folder", "birds")  # `READERS` and birds
COUNT = click.IntRange(1)
NATURAL = click.IntRange(0)
SCENES = ("places365", "dtd", "google", "scenes8", "folder")


def is_given(context: click.Context, option: str) -> bool:
    """Whether an option stands on the command line."""
    return context.get_parameter_source(option) is not ParameterSource.DEFAULT


@click.command()
@click.argument("kind", type=click.Choice(DATA_SETS))
@click.argument("folders", nargs=-1, required=True, metavar="[RAW] OUT", type=FOLDER)
@click.option("--archives", type=FOLDER, help="cub, ilsvrc: unpack the archives here into RAW.")
@click.option("--checksums", type=FILE, help="cub, ilsvrc: md5sum file of other archives.")
@click.option("--fullsup", type=FOLDER, help="cub, ilsvrc: metadata of train-fullsup.")
@click.option("--fullsup-images", type=FOLDER, help="cub, ilsvrc: FULLSUP/images by default.")
@click.option("--download", is_flag=True, help="pets: download it into RAW, 800 MB.")
@click.option("--class", "classes", multiple=True, help="cub, pets: only these classes.")
@click.option("--fullsup-count", type=NATURAL, help="cub, pets: images per class for tau.")
@click.option("--metadata", type=FOLDER, help="openimages: RAW/metadata by default.")
@click.option("--boxes", type=FILE, help="folder: image,x0,y0,x1,y1 as CSV, or COCO's JSON.")
@click.option("--masks", type=FOLDER, help="folder: object masks, the images' paths as .png.")
@click.option("--shares", nargs=3, type=float, default=(0.7, 0.1, 0.2), help="folder: of splits.")
@click.option("--seed", type=NATURAL, default=0, help="folder, birds: random seed.")
@click.option("--background", "backgrounds", multiple=True, type=FOLDER, help="Images to copy.")
@click.option("--source", default="", help="Where the background images are from.")
@click.option("--licence", default="", help="Licence of the background images.")
@click.option("--headers-only", is_flag=True, help="Do not decode every image.")
@click.option("--workers", type=COUNT, help="Threads that decode; all cores by default.")
@click.pass_context
def prepare(
    context, kind, folders, backgrounds, source, licence, headers_only, workers, **fields
) -> None:
    """Check a data set and write its index table into OUT.

    RAW is the folder of the data set (none for birds, which are drawn). All errors are reported
    together and written to OUT/errors.csv. An interrupted command resumes.

    \b
    wsol prepare cub data/raw/CUB_200_2011 data/cub --archives data/raw/archives \\
        --fullsup data/raw/CUBV2
    wsol prepare pets data/raw data/pets --download
    wsol prepare folder photos data/mine --boxes boxes.csv
    wsol prepare birds data/birds
    """
    if len(folders) != (1 if kind == "birds" else 2):
        raise ValueError(f"{kind} takes {'OUT' if kind == 'birds' else 'RAW and OUT'}")
    for option in context.command.params:  # whose help names the kinds it is for
        kinds = (getattr(option, "help", None) or "").partition(":")[0].split(", ")
        if kind not in kinds and {*kinds} <= {*DATA_SETS} and is_given(context, option.name):
            raise ValueError(f"{option.opts[0]} is for {', '.join(kinds)}, not {kind}")
    if kind == "birds":
        from wsol.datasets.birds import BirdsConfig
        from wsol.datasets.prepare import prepare_birds

        index = prepare_birds(folders[0], BirdsConfig(seed=fields["seed"]), workers or 2)
        return _report_splits(index, folders[0])
    from wsol.datasets.checks import ImageCheck
    from wsol.datasets.image_files import list_images
    from wsol.datasets.index import INDEX
    from wsol.datasets.prepare import LEFT_OUT, Plan, prepare_background, prepared_index, unpack
    from wsol.datasets.prepare import prepare as prepare_plan

    if fields.pop("download"):
        from wsol.datasets.pets import download_pets

        download_pets(folders[0])
    check = ImageCheck(not headers_only, workers=workers)
    plan = Plan(kind, *folders, **fields, leave=backgrounds, check=check)
    if plan.has_archives():
        done = unpack(plan)
        click.echo(f"{done.written} files unpacked, {done.kept} were there")
    prepare_plan(plan)
    if kind == "folder":
        list_images(plan.raw, skipped := Counter())
        for reason, count in (+skipped).items():
            click.echo(f"{plan.raw}: {count} {reason} skipped")
    _report_splits(prepared_index(plan.out), plan.out / INDEX)
    if (left_out := plan.out / LEFT_OUT).is_file():
        click.echo(f"{len(left_out.read_text().splitlines())} images left out, see {left_out}")
    if backgrounds or (plan.out / "background").is_dir():
        n = prepare_background(plan.out, backgrounds, source, licence)
        click.echo(f"{n} background images")


def _report_splits(index, path: Path) -> None:
    counts = index["split"].value_counts(sort=False)
    splits = ", ".join(f"{split} {count}" for split, count in counts.items())
    click.echo(f"{path}: {index['label'].nunique()} classes, {splits}")


@click.group()
def background() -> None:
    """Build, check and audit a background image set.

    \b
    wsol background folder data/mine/background photos/moor --source me --licence CC0-1.0
    wsol background sample data/mine/background PLACES --kind places365 --include "field*"
    wsol background check data/mine/background --data data/mine
    """


def building(command):
    """Options of the commands that build a set."""
    for option in (
        click.option("--data", type=FOLDER, help="Leave out images of this prepared data set."),
        click.option("--distance", type=NATURAL, default=6, help="Hash bits; 6 by default."),
        click.option("--add", is_flag=True, help="Add to the set in OUT."),
        click.option("--replace", is_flag=True, help="Replace the set in OUT."),
    ):
        command = option(command)
    return command


def _build(candidates, out: Path, data: Path | None, distance: int, add: bool, replace: bool):
    from wsol.datasets.backgrounds.build import build_background_set, copy_lines, prepared_data
    from wsol.datasets.backgrounds.manifest import read_background_set

    options = {"distance": distance, "add": add, "replace": replace}
    prepared = prepared_data(data) if data else None
    left_out = build_background_set(candidates, out, data=prepared, **options)
    for line in copy_lines(left_out):
        click.echo(line)
    click.echo(f"{len(read_background_set(out))} background images, {len(left_out)} left out")


@background.command()
@click.argument("out", type=FOLDER)
@click.argument("images", type=FOLDER)
@click.option("--source", required=True, help="Where the images are from.")
@click.option("--licence", required=True, help="Licence of the background images.")
@click.option("--below", default="", help="Folder in OUT for them.")
@building
def folder(out, images, source, licence, below, **options) -> None:
    """All images below a folder."""
    from wsol.datasets.backgrounds.build import from_folder

    _build(from_folder(images, source, licence, below), out, **options)


@background.command()
@click.argument("out", type=FOLDER)
@click.argument("table", type=FILE)
@click.option("--downloads", type=FOLDER, help="Folder of the files; OUT.downloads by default.")
@click.option("--max-bytes", type=COUNT, default=20_000_000, show_default=True, help="Per image.")
@click.option("--tries", type=COUNT, default=4, show_default=True, help="Per image.")
@click.option("--interval", type=click.FloatRange(0), default=1.0, help="Seconds per host; 1.")
@click.option("--allow-network", multiple=True, help="Network that is not public: 10.1.0.0/16.")
@building
def urls(out, table, downloads, max_bytes, tries, interval, allow_network, **options) -> None:
    """Images of a table of URLs: CSV with url, licence and, if it differs, source."""
    from wsol.datasets.backgrounds.web import Limits, download, read_urls

    limits = Limits(
        max_bytes=max_bytes, tries=tries, host_interval=interval, allowed_networks=allow_network
    )
    files = downloads or out.with_name(f"{out.name}.downloads")
    candidates, failed = download(read_urls(table), files, limits)
    for row in failed.itertuples():
        click.echo(f"failed: {row.url}: {row.reason}", err=True)
    _build(candidates, out, **options)


@background.command()
@click.argument("out", type=FOLDER)
@click.argument("root", type=FOLDER)
@click.option("--kind", type=click.Choice(SCENES), required=True)
@click.option("--include", multiple=True, default=("*",), help="Patterns of categories.")
@click.option("--exclude", multiple=True, help="Patterns of categories.")
@click.option("--per-category", type=COUNT, help="Images at most.")
@click.option("--total", type=COUNT, help="Images at most.")
@click.option("--seed", type=NATURAL, default=0)
@click.option("--source", default="", help="Where the images are from, if kind is folder.")
@click.option("--licence", default="", help="What they may be used under, if kind is folder.")
@building
def sample(
    out, root, kind, include, exclude, per_category, total, seed, source, licence, **options
) -> None:
    """Images drawn from a data set of scenes or textures.

    \b
    wsol background sample data/cub/background data/raw --kind google
    """
    from wsol.datasets.backgrounds.scenes import Rule, sample_scenes

    rule = Rule(tuple(include), tuple(exclude), per_category, total, seed)
    _build(sample_scenes(root, kind, rule, source, licence), out, **options)


@background.command()
@click.argument("out", type=FOLDER)
@click.option("--data", type=FOLDER, help="Prepared data set to look for copies in.")
@click.option("--distance", type=NATURAL, default=6, show_default=True, help="Hash bits.")
@click.option("--drop", is_flag=True, help="Drop what is also in the data set.")
def check(out, data, distance, drop) -> None:
    """Check the manifest and, with --data, for images of the data set (exit status 1)."""
    from wsol.datasets.backgrounds.build import check_background_set, copy_lines, prepared_data
    from wsol.datasets.backgrounds.manifest import read_background_set

    leaks = check_background_set(out, prepared_data(data) if data else None, distance, drop)
    for line in copy_lines(leaks):
        click.echo(line)
    click.echo(f"{len(read_background_set(out))} background images in use")
    if len(leaks) and not drop:
        click.get_current_context().exit(1)


@background.command()
@click.argument("out", type=FOLDER)
@click.argument("run")
@click.option("--score", default="", help="foreground, class-map, max-logit or energy.")
@click.option("--first", type=COUNT, default=20, show_default=True, help="Images to print.")
def audit(out, run, score, first) -> None:
    """Rank the images by how much a trained run sees an object in them."""
    from wsol.inference.audit import audit as rank_images

    ranked = rank_images(out, run, score)
    for row in ranked.head(first).itertuples():
        decision = f"  ({row.decision})" if row.decision else ""
        click.echo(f"{row.score:10.4g}  {row.file}{decision}")


@background.command()
@click.argument("out", type=FOLDER)
@click.option("--drop", multiple=True, metavar="FILE", help="Exclude this image.")
@click.option("--keep", multiple=True, metavar="FILE", help="Use this image.")
@click.option("--note", default="", help="Reason, for the manifest.")
def decide(out, drop, keep, note) -> None:
    """Record which images are used."""
    from wsol.datasets.backgrounds.manifest import decide as record
    from wsol.datasets.backgrounds.manifest import read_background_set

    record(out, drop, keep, note)
    click.echo(f"{len(read_background_set(out))} background images in use")
