"""Boxes for a folder of pictures, from the command line.

    python -m wsol.localize_own RUN IMAGES... --out DIR [--evaluation DIR]
        [--map class|foreground|product] [--tau T] [--read-out raw|relu|sigmoid]
        [--data DIR] [--top K] [--batch-size B] [--device NAME] [--overlays] [--skip]

Writes OUT/boxes.csv, OUT/boxes.coco.json and, if asked, OUT/overlays/<COCO image id>-<name>.jpg of
the predicted class. RUN is the folder of a trained run, DIR that of its localization tables. From
Python, the same is `wsol.localize`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from wsol.evaluation.predict import READ_OUTS
from wsol.inference.export import overlay, to_coco, to_csv
from wsol.inference.inputs import picture_files, read_picture
from wsol.inference.localize import Found, iterate_images
from wsol.inference.published import run_folder
from wsol.inference.settings import KINDS


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m wsol.localize_own", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "run", metavar="RUN", help="folder of a trained run, or a published one: birds/background-0"
    )
    parser.add_argument("images", metavar="IMAGES", nargs="+", help="files, or folders of them")
    parser.add_argument("--evaluation", metavar="DIR", help="localization tables of the run")
    parser.add_argument("--out", metavar="DIR", required=True, type=Path)
    parser.add_argument("--map", choices=KINDS, default="class", help="(%(default)s)")
    parser.add_argument("--tau", type=float, help="threshold, in the place of the evaluation's")
    parser.add_argument("--read-out", choices=READ_OUTS, help="together with --tau")
    parser.add_argument("--data", metavar="DIR", help="data set of the run, for the class names")
    parser.add_argument("--top", type=int, default=1, help="classes per picture (%(default)s)")
    parser.add_argument("--device", default="auto", help="(%(default)s: a GPU if there is one)")
    parser.add_argument("--batch-size", type=int, default=32, help="(%(default)s)")
    parser.add_argument("--overlays", action="store_true", help="write pictures with their boxes")
    parser.add_argument("--skip", action="store_true", help="pass over what cannot be read")
    return parser.parse_args(argv)


def _files(images: Sequence[str]) -> list[Path]:
    """All files, in the order given; those of a folder sorted."""
    paths = map(Path, images)
    return [file for path in paths for file in (picture_files(path) if path.is_dir() else [path])]


def _write_overlay(found: Found, number: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    drawn = overlay(read_picture(found.image), found.score_map, found.box)
    Image.fromarray(drawn).save(folder / f"{number:05d}-{Path(found.image).stem}.jpg", quality=90)


def localize_files(given: argparse.Namespace) -> tuple[list[Found], list[str]]:
    """What was found, without the score maps, and what could not be read."""
    files, skipped = list(dict.fromkeys(_files(given.images))), []
    names = ("evaluation", "map", "tau", "read_out", "data", "batch_size", "device", "top")
    found = iterate_images(
        files,
        run_folder(given.run),
        errors="skip" if given.skip else "raise",
        skipped=skipped,
        **{name: getattr(given, name) for name in names},
    )
    kept: list[Found] = []
    number = 0
    for one in tqdm(found, desc="localize", total=given.top * len(files), unit="box"):
        if one.rank == 1:
            number += 1
            if given.overlays:
                _write_overlay(one, number, given.out / "overlays")
        kept.append(one._replace(score_map=None))  # 200 kB each
    return kept, skipped


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 2 and one message where something is wrong with the input."""
    given = _arguments(argv)
    try:
        found, skipped = localize_files(given)
    except (ValueError, OSError) as error:  # of what was given, and they say what is wrong
        print(f"wsol.localize_own: {error}", file=sys.stderr)
        return 2
    for line in skipped:
        print(f"skipped {line}", file=sys.stderr)
    for write, name in ((to_csv, "boxes.csv"), (to_coco, "boxes.coco.json")):
        write(found, given.out / name)
        print(given.out / name)
    boxed = {one.image for one in found if one.box.any()}
    for image in dict.fromkeys(one.image for one in found):
        if image not in boxed:
            print(
                f"no box: {image} (its map is constant; a picture of one colour?)", file=sys.stderr
            )
    print(f"{len(boxed)} pictures with a box, {len(skipped)} skipped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
