"""Background images drawn from a data set of scenes or textures that the user has.

Some are known by name, with their layout and terms; any other folder of categories is "folder".
A category is the folder of an image below the data set's root, without what only holds the
categories: `data_256/f/field/wild/00000001.jpg` is of the category "field/wild".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from wsol.datasets.backgrounds.build import Candidate
from wsol.datasets.checks import DatasetError
from wsol.datasets.image_files import list_images


@dataclass(frozen=True)
class SceneData:
    """A data set of scenes or textures, as its authors publish it."""

    source: str  # its page
    licence: str  # its terms, in their words as far as they are short
    holders: tuple[str, ...]  # patterns of leading folders that are no category
    letters: bool = False  # categories lie below a folder of their first letter
    category: str = "*"  # the only ones that are background


KNOWN = {
    "places365": SceneData(
        source="http://places2.csail.mit.edu/",
        licence="Places365: non-commercial research and education only, no redistribution; "
        "images belong to their owners",
        holders=("data_256*", "data_large*", "train", "val", "places365*"),
        letters=True,
    ),
    "dtd": SceneData(
        source="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        licence="DTD: available to the computer vision community for research purposes",
        holders=("dtd*", "images"),
    ),
    "google": SceneData(
        source="Caltech-101 BACKGROUND_Google https://data.caltech.edu/records/mzrjq-6wc02",
        licence="CC BY 4.0",
        holders=("caltech*", "101_ObjectCategories"),
        category="BACKGROUND_Google",
    ),
    "scenes8": SceneData(
        source="https://people.csail.mit.edu/torralba/code/spatialenvelope/",
        licence="MIT 8-scene set (Oliva and Torralba 2001): research",
        holders=("spatial_envelope*", "scenes"),
    ),
    "folder": SceneData(source="", licence="", holders=()),
}


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True)
class Rule:
    """Which images are drawn. The same rule on the same folder always draws the same ones."""

    include: tuple[str, ...] = ("*",)  # patterns of categories, as "field*" or "*/outdoor"
    exclude: tuple[str, ...] = ()  # patterns of categories that are left out all the same
    per_category: int | None = None  # at most
    total: int | None = None  # at most
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("per_category", "total"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")

    def takes(self, category: str) -> bool:
        """Whether images of a category may be drawn."""
        return _fits(category, self.include) and not _fits(category, self.exclude)


def category_of(path: str, kind: str) -> str:
    """The category of an image from its path below the root; "" if it lies in none."""
    known, parts = KNOWN[kind], path.split("/")[:-1]
    while parts and _fits(parts[0], known.holders):
        parts = parts[1:]
    if known.letters and parts and len(parts[0]) == 1:
        parts = parts[1:]
    return "/".join(parts)


def _categories(root: Path, kind: str, rule: Rule) -> dict[str, list[str]]:
    categories = defaultdict(list)
    for path in sorted(p.relative_to(root).as_posix() for p in list_images(root)):
        categories[category_of(path, kind)].append(path)
    own = KNOWN[kind].category
    names = (name for name in categories if fnmatchcase(name, own) and rule.takes(name))
    taken = {name: categories[name] for name in names if name}
    if not taken:
        some = ", ".join(sorted(set(categories) - {""})[:5]) or "no category at all"
        raise DatasetError([f"{root}: no category that the rule takes; it has {some}"])
    return taken


def sample_scenes(
    root: str | Path, kind: str, rule: Rule, source: str = "", licence: str = ""
) -> list[Candidate]:
    """Images that a rule draws from a data set, in a random order, so that "the first n" of the
    background set are of all categories.

    kind : of `KNOWN`, which gives source and licence; they must be said for "folder"

    A category's images do not depend on what other categories there are. Raises ValueError for
    an unknown kind or a blank licence, DatasetError if no category fits.
    """
    if kind not in KNOWN:
        raise ValueError(f"the scene data set is {kind!r}; known: {', '.join(KNOWN)}")
    source, licence = source or KNOWN[kind].source, licence or KNOWN[kind].licence
    if not (source.strip() and licence.strip()):
        raise ValueError(f"{root} needs a source and a licence")
    root, drawn = Path(root), []
    for category, paths in _categories(root, kind, rule).items():
        rng = np.random.default_rng([rule.seed, *category.encode()])
        drawn += [paths[i] for i in rng.permutation(len(paths))[: rule.per_category]]
    order = np.random.default_rng(rule.seed).permutation(len(drawn))[: rule.total]
    return [
        Candidate(root / drawn[i], f"{kind}/{drawn[i]}", f"{source} {drawn[i]}", licence)
        for i in order
    ]
