"""The options of the commands that say how the images of a data set are looked at."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from wsol.datasets.checks import ImageCheck


def add_check_options(parser: ArgumentParser) -> None:
    """Add the options that say how images are looked at, for `check_of`."""
    parser.add_argument(
        "--headers-only", action="store_true", help="do not decode every image, which takes long"
    )
    parser.add_argument(
        "--journal", type=Path, help="which images decoded, OUT/images.jsonl by default"
    )
    parser.add_argument("--workers", type=int, help="threads that decode, all cores by default")


def check_of(arguments: Namespace) -> ImageCheck:
    """How images are looked at, from the options of `add_check_options`."""
    return ImageCheck(not arguments.headers_only, arguments.journal, arguments.workers)
