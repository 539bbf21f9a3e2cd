"""What data sets consist of: the table, what of it is there, and that data/README.md agrees."""

import re
from pathlib import Path

import pytest

from wsol.datasets.archives import BOXES, CUB, MASKS, TRAIN, VAL
from wsol.datasets.sources import FOLDERS, SOURCES, overview, published

ROOT = Path(__file__).parents[1]
README = (ROOT / "data" / "README.md").read_text(encoding="utf-8")


def markdown(dataset: str) -> str:
    """The table of a data set in data/README.md, with the folders that are used there."""
    table = overview(dataset, FOLDERS[dataset], Path("nowhere")).drop(columns="there")
    table["put it at"] = [f"`{place}`" for place in table["put it at"]]
    return table.to_markdown(index=False, tablefmt="pipe")


PAGES = {source.page for sources in SOURCES.values() for source in sources}


@pytest.mark.parametrize("dataset", SOURCES)
def test_the_readme_holds_the_very_table(dataset):
    assert markdown(dataset) in README


def test_the_readme_names_no_archive_and_no_checksum_that_the_table_lacks():
    table = "\n".join(markdown(dataset) for dataset in SOURCES)
    named = set(re.findall(r"[\w.-]+\.(?:tgz|tar\.gz|tar|zip)\b", README))
    assert named
    assert {name for name in named if name not in table} == set()
    assert set(re.findall(r"\b[0-9a-f]{32}\b", README)) == set(re.findall(r"[0-9a-f]{32}", table))


def test_the_archives_of_the_table_are_those_that_are_unpacked():
    assert list(published("cub")) == [CUB, MASKS]
    assert list(published("ilsvrc")) == [TRAIN, VAL, BOXES]
    assert published("openimages") == {}


@pytest.mark.parametrize("dataset", SOURCES)
def test_every_source_says_what_to_do_and_lies_in_a_folder_of_the_data_set(dataset):
    for source in SOURCES[dataset]:
        assert source.what
        assert source.licence
        assert source.page.startswith("https://")
        assert source.folder in FOLDERS[dataset]
        assert source.md5 == "" or re.fullmatch(r"[0-9a-f]{32}", source.md5)
        assert bool(source.md5) == bool(source.becomes)


@pytest.mark.parametrize("dataset", SOURCES)
def test_nothing_is_there_at_first_and_then_everything(dataset, tmp_path):
    folders = FOLDERS[dataset]
    table = overview(dataset, folders, tmp_path)
    assert len(table) == len(SOURCES[dataset])
    assert set(table["there"]) <= {"no", "no, it is optional"}
    for place in table["put it at"]:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.write_text("x")
        else:
            path.mkdir(exist_ok=True)
            (path / "file").touch()
    table = overview(dataset, folders, tmp_path)
    published_size = table["bytes"] != ""
    assert set(table["there"][~published_size]) == {"yes"}
    assert set(table["there"][published_size]) <= {"yes, but 1 bytes"}


def test_an_empty_folder_is_not_there(tmp_path):
    (tmp_path / FOLDERS["cub"]["images"]).mkdir(parents=True)
    assert overview("cub", FOLDERS["cub"], tmp_path)["there"].iloc[-1] == "no"


def test_what_is_unpacked_needs_no_archive(tmp_path):
    (tmp_path / "raw/segmentations").mkdir(parents=True)
    (tmp_path / "raw/segmentations/a.png").touch()
    (tmp_path / "raw/images.txt").touch()
    for archives in ("tars", ""):
        folders = {"raw": "raw", "archives": archives, "fullsup": ""}
        table = overview("cub", folders, tmp_path)
        assert table["there"].tolist() == ["unpacked already"] * 2
    assert table["put it at"].tolist() == [CUB, MASKS]


def test_a_download_of_another_size_is_seen_before_it_is_read(tmp_path):
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / CUB).write_bytes(b"x" * 1234)
    table = overview("cub", {"archives": "tars", "raw": "raw"}, tmp_path)
    assert table["there"].tolist() == ["yes, but 1,234 bytes", "no, it is optional"]
    assert table["bytes"].iloc[0] == "1,150,585,339"
