"""`wsol evaluate SCOREMAPS`: the same numbers as from Python, and clear refusals."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from wsol.cli import main
from wsol.datasets.index import write_index
from wsol.datasets.metadata import read_split_metadata
from wsol.evaluation import metrics
from wsol.evaluation.localize import localize
from wsol.evaluation.masks import with_masks
from wsol.evaluation.summary import evaluate_score_maps, join_parts, read_table, summarize
from wsol.evaluation.table import LocalizationTable, join_tables
from wsol.report.format import BEST_TAU

CUB = Path(__file__).parents[2] / "shared" / "wsolevaluation-metadata" / "CUB"


def write_metadata(folder: Path, count: int) -> Path:
    """A split of `count` images of 300 x 200 in three classes, the last image with two boxes."""
    rng = np.random.default_rng(0)
    ids = [f"{i % 3:03d}.Kind/im_{i}.jpg" for i in range(count)]
    corners = np.sort(rng.integers(0, 200, (count + 1, 2, 2)), axis=1) + [[0, 0], [20, 0]]
    boxes = [f"{x0},{y0},{x1},{max(y1, y0 + 1)}" for x0, y0, x1, y1 in corners.reshape(-1, 4)]
    lines = {
        "image_ids.txt": ids,
        "class_labels.txt": [f"{name},{i % 3}" for i, name in enumerate(ids)],
        "image_sizes.txt": [f"{name},300,200" for name in ids],
        "localization.txt": [f"{n},{b}" for n, b in zip([*ids, ids[-1]], boxes, strict=True)],
    }
    folder.mkdir()
    for name, text in lines.items():
        (folder / name).write_text("\n".join(text))  # no newline at the end, as the originals
    return folder


def hills(metadata: Path) -> np.ndarray:
    """Score maps (N, 224, 224) in [0, 1]: a hill near the first box of each image, and noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:224, :224]
    maps = []
    for row in read_split_metadata(metadata, "test").itertuples():
        x0, y0, x1, y1 = map(float, row.boxes.split(";")[0].split())
        cx, cy = (x0 + x1) / 2 * 224 / 300, (y0 + y1) / 2 * 224 / 200
        hill = np.exp(-(((x - cx) / 50) ** 2 + ((y - cy) / 40) ** 2))
        maps.append(0.9 * hill + 0.1 * rng.random((224, 224)))
    return np.array(maps).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Metadata, score maps and predictions of 12 test and 7 train-fullsup images."""
    for split, count in (("test", 12), ("val", 7)):
        np.save(tmp_path / f"{split}.npy", hills(write_metadata(tmp_path / split, count)))
    lines = ["image_id,class_1,class_2,class_3,class_4,class_5"]
    for i, row in read_split_metadata(tmp_path / "test", "test").iterrows():
        first = row["label"] + i % 2  # every second prediction is wrong
        lines.append(",".join([row["image_id"], *(str((first + k) % 9) for k in range(5))]))
    (tmp_path / "predictions.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(folder: Path, *more: str) -> tuple[Result, dict]:
    """The command and its numbers; {folder} in an argument is that of the files."""
    arguments = ["{folder}/test.npy --metadata {folder}/test --json {folder}/out.json", *more]
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    result = CliRunner().invoke(main, "evaluate " + " ".join(arguments).format(folder=folder))
    assert result.exit_code == (0 if out.exists() else 2)
    return result, json.loads(out.read_text()) if out.exists() else {}


FULLSUP = "--fullsup {folder}/val.npy {folder}/val"
PREDICTIONS = "--predictions {folder}/predictions.csv"


def test_the_numbers_are_those_of_the_library(folder):
    result, report = run(folder, FULLSUP, PREDICTIONS)
    own = [
        localize(hills(folder / n), read_split_metadata(folder / n, s), score_of=np.float64)
        for n, s in (("test", "test"), ("val", "train-fullsup"))
    ]
    own[0].rows["rank"] = [5 if i % 2 else 0 for i in range(12)]
    numbers = metrics.evaluate(*own)
    for name in ("tau", "tau_oracle", "maxboxacc", "top1_loc_error", "cls_error"):
        assert report[name] == numbers[name]
    parts = {part: numbers[f"maxboxacc_v2_{part}"] for part in metrics.PARTS}
    assert report["maxboxacc_v2"] == {"mean": numbers["maxboxacc_v2"], **parts}
    assert (report["tau_source"], report["cls_error"]) == ("train-fullsup", 50)
    assert len(report["curves"]["gt_known_loc_error"]) == 1000
    low, high = report["intervals"]["gt_known_loc_error"]
    assert low <= report["gt_known_loc_error"] <= high
    first, *lines = result.stdout.splitlines()
    assert "chosen on train-fullsup" in first
    oracle = [line.split()[0] for line in lines if line.endswith(BEST_TAU)]
    assert oracle == ["maxboxacc", "maxboxacc_v2"]


def test_without_fullsup_the_tau_is_the_oracle_and_has_no_interval(folder):
    _, report = run(folder)
    assert (report["tau_source"], report["intervals"]) == ("oracle", {})
    assert report["gt_known_loc_error"] == pytest.approx(100 - report["maxboxacc"])
    assert not any(name.endswith("_oracle") and name != "tau_oracle" for name in report)
    assert report["top1_loc_error"] is None


def test_a_folder_of_maps_gives_the_same_as_one_file(folder):
    ids = read_split_metadata(folder / "test", "test")["image_id"]
    for name, score in zip(ids, np.load(folder / "test.npy"), strict=True):
        file = folder / "folder" / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, score)
    one, other = (
        evaluate_score_maps(folder / p, folder / "test")[0] for p in ("test.npy", "folder")
    )
    assert one == other


def test_a_prepared_data_set_is_metadata_and_its_masks_are_used(folder):
    data, splits = folder / "data", {"test": "test", "val": "train-fullsup"}
    rows = pd.concat([read_split_metadata(folder / n, split) for n, split in splits.items()])
    data.mkdir()
    for masked in (False, True):
        if masked:
            Image.fromarray(np.pad(np.full((99, 150), 255, np.uint8), 50)).save(data / "mask.png")
            rows = rows.assign(mask="mask.png", width=250, height=199)
        write_index(rows, data / "index.csv")
        _, report = run(folder, "--metadata {folder}/data --fullsup {folder}/val.npy {folder}/data")
        assert (report["pxap"] is not None) == masked
        if not masked:
            assert report == run(folder, FULLSUP)[1]
    assert "no image of the split 'test'" in _without_test(folder)


def _without_test(folder: Path) -> str:
    write_index(read_split_metadata(folder / "val", "train-fullsup"), folder / "data/index.csv")
    return run(folder, "--metadata {folder}/data")[0].output


def test_failures_add_up_to_the_errors_and_predicted_maps_give_top1_alone(folder):
    _, report = run(folder, PREDICTIONS)
    for error, shares in report["failures"].items():
        assert sum(shares.values()) == pytest.approx(100)
        assert 100 - shares["right"] == pytest.approx(report[error])
    _, report = run(folder, "--map-class predicted", PREDICTIONS)
    assert report["map_class"] == "predicted"
    assert report["top1_loc_error"] >= report["cls_error"] == 50
    for name in ("gt_known_loc_error", "top5_loc_error", "maxboxacc", "maxboxacc_v2"):
        assert report[name] is None
    assert list(report["failures"]) == ["top1_loc_error"]


def test_masks_give_pixel_scores(folder):
    for i, name in enumerate(read_split_metadata(folder / "test", "test")["image_id"]):
        file = folder / "masks" / f"{name[:-4]}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30), 255, np.uint8)).save(file)
        if i == 0:
            Image.fromarray(np.full((20, 30), 0, np.uint8)).save(file.with_name("im_0_ignore.png"))
    assert run(folder, "--masks {folder}/masks")[1]["pxap"] == pytest.approx(100)
    file.unlink()
    assert "im_11.jpg" in run(folder, "--masks {folder}/masks")[0].stderr


def test_the_table_has_a_row_per_image(folder):
    _, report = run(folder, "--table {folder}/images.csv")
    images = pd.read_csv(folder / "images.csv")
    assert 100 * (images["iou"] < 0.5).mean() == pytest.approx(report["gt_known_loc_error"])
    assert ((images["outcome"] == "right") == (images["iou"] >= 0.5)).all()
    run(folder, "--table {folder}/table.npz")
    table = LocalizationTable.load(folder / "table.npz")
    assert summarize(table)["maxboxacc"] == report["maxboxacc"]


def test_two_images_do_not_share_a_mask(tmp_path):
    rows = pd.DataFrame({"image_id": ["a/x.jpg", "a/x.png"]})
    (tmp_path / "a").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "a/x.png")
    with pytest.raises(ValueError, match="is of more than one image"):
        with_masks(rows, tmp_path)


def test_classes_counted_from_one_are_warned_about(folder):
    lines = (folder / "predictions.csv").read_text().splitlines()
    shifted = [line.split(",") for line in lines[1:]]
    shifted = [",".join([name, *(str(int(c) + 1) for c in classes)]) for name, *classes in shifted]
    (folder / "predictions.csv").write_text("\n".join([lines[0], *shifted]))
    with pytest.warns(UserWarning, match="none of 0"):
        run(folder, PREDICTIONS)


def test_shards_of_other_maps_and_of_an_earlier_choice_of_tau_do_not_join(folder):
    np.save(folder / "other.npy", 1 - np.load(folder / "test.npy"))

    def shard(i: int, maps: str = "test", **more) -> None:
        where = folder / f"{maps}.npy", folder / "test"
        evaluate_score_maps(*where, shard=f"{i}/2", parts=folder / "parts", **more)

    shard(1), shard(2, "other")
    with pytest.raises(ValueError, match="different evaluations"):
        join_parts(folder / "parts")
    chosen_on = {"fullsup": (folder / "val.npy", folder / "val")}
    shard(1, **chosen_on), shard(2, **chosen_on)
    join_parts(folder / "parts")
    shard(1), shard(2)
    with pytest.raises(ValueError, match="train-fullsup are of another evaluation"):
        join_parts(folder / "parts")
    with pytest.raises(ValueError, match="needs parts"):
        evaluate_score_maps(folder / "test.npy", folder / "test", shard="1/2")


@pytest.mark.parametrize("name", ["bas2022", "psol2020", "tscam2021"])
def test_another_protocol_gives_its_own_errors(folder, name):
    result, report = run(folder, f"--protocol {name}", FULLSUP, PREDICTIONS)
    assert report["protocol"] == name
    assert ("mean over the classes" in result.stdout) == (name != "tscam2021")
    assert ("at the published tau" in result.stdout) == (name != "psol2020")
    assert report["top1_loc_error"] >= report["gt_known_loc_error"] >= 0
    assert report["gt_known_loc_error_oracle"] <= report["gt_known_loc_error"]
    assert "maxboxacc" not in report


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda maps: maps[:-1], "11 maps for 12 images"),
        (lambda maps: np.where(maps > 0.9, np.nan, maps), "NaN"),
        (lambda maps: maps * 2, "not in"),
        (lambda maps: maps[0], "(N, H, W)"),
        (lambda maps: (maps * 255).astype(np.uint8), "divide grey levels by 255"),
        ("000.Kind/im_0.jpg,10,10,400,50", "localization.txt:14"),
        ("000.Kind/other.jpg,10,10,40,50", "other.jpg is not in image_ids.txt"),
        ("--map-class predicted", "need the predictions"),
        ("--fullsup {folder}/test.npy {folder}/val", "chosen on other score maps"),
        ("--protocol bas2022 --table {folder}/x.csv", "none"),
        ("--fullsup missing.npy {folder}/val", "missing.npy"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_message(folder, spoil, message):
    boxes, more = folder / "test" / "localization.txt", ""
    if callable(spoil):
        np.save(folder / "test.npy", spoil(np.load(folder / "test.npy")))
    elif spoil.startswith("--"):
        more = spoil
    else:
        boxes.write_text(f"{boxes.read_text()}\n{spoil}")
    result, report = run(folder, more)
    assert not report
    assert message in result.stderr


def test_memory_does_not_grow_with_the_maps(folder):
    rows = read_split_metadata(folder / "test", "test")
    peaks = []
    for count in (10, 40):
        many = pd.concat([rows] * count, ignore_index=True)[: 10 * count]
        file, shape = folder / f"{count}.npy", (len(many), 28, 28)
        maps = np.lib.format.open_memmap(file, "w+", np.float32, shape)
        maps[:] = np.random.default_rng(0).random((1, 28, 28))
        tracemalloc.start()
        table = localize(maps, many, score_of=lambda m: np.kron(m, np.ones((8, 8))), workers=2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        own = table.steps_largest.nbytes + table.steps_all.nbytes + table.level_boxes.boxes.nbytes
        assert peaks[-1] < 2 * own + 40e6  # the table, and a few maps on their way
    all_scores = 300 * 224 * 224 * 8  # bytes of what must not be held at once
    assert peaks[1] - peaks[0] < 0.2 * all_scores


@pytest.mark.skipif(not CUB.is_dir(), reason="the metadata of the reference code are not here")
def test_the_real_test_split_is_walked_through():
    rows = read_split_metadata(CUB / "test", "test")
    maps = np.random.default_rng(0).random((40, 14, 14)).astype(np.float32)
    table = localize(maps[np.arange(len(rows)) % 40], rows)
    assert len(table.rows) == 5794
    assert 0 < metrics.max_box_acc(table) < 100


@pytest.mark.parametrize("n", [1, 3, 7])
@pytest.mark.parametrize("more", ["", "{fullsup} {predictions} --masks {masks}"])
def test_shards_join_to_the_bytes_of_one_run(folder, n, more):
    rows = read_split_metadata(folder / "test", "test")
    for i, name in enumerate(rows["image_id"]):
        path = (folder / "masks" / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = np.zeros((200, 300), np.uint8)
        mask[10 : 60 + i, 20:90] = 255
        Image.fromarray(mask).save(path)
    more = more.format(fullsup=FULLSUP, predictions=PREDICTIONS, masks="{folder}/masks")
    run(folder, more, "--table {folder}/whole.npz")
    whole = [(folder / name).read_bytes() for name in ("out.json", "whole.npz")]
    one = f"evaluate {{folder}}/test.npy --metadata {{folder}}/test {more}"
    join = "evaluate {folder}/parts --join --json {folder}/out.json --table {folder}/joined.npz"
    for command in (*(f"{one} --shard {i}/{n} {{folder}}/parts" for i in range(n, 0, -1)), join):
        result = CliRunner().invoke(main, command.format(folder=folder))
        assert result.exit_code == 0, result.output
    assert [(folder / name).read_bytes() for name in ("out.json", "joined.npz")] == whole


@pytest.mark.parametrize(
    ("present", "words"),
    [
        ((), "once each, not none"),
        (("1/3", "2/3"), "not 1/3, 2/3"),
        (("1/2", "2/2", "2/2"), "not 1/2, 2/2, 2/2"),
        (("1/2", "2/3"), "not 1/2, 2/3"),
        (("2/2",), "not 2/2"),
    ],
)
def test_missing_and_repeated_shards_are_refused(folder, present, words):
    tables = [read_table(folder / "test.npy", folder / "test", "test", shard=s) for s in present]
    with pytest.raises(ValueError, match=words):
        join_tables(tables)


def test_shards_of_different_maps_and_wrong_names_are_refused(folder):
    about = folder / "test.npy", folder / "test", "test"
    own = read_table(*about, shard="1/2")
    other = read_table(*about, shard="2/2", map_class="predicted")
    with pytest.raises(ValueError, match="different evaluations"):
        join_tables([own, other])
    sizes = folder / "test" / "image_sizes.txt"
    sizes.write_text(sizes.read_text().replace("300", "301"))
    with pytest.raises(ValueError, match="different evaluations"):
        join_tables([own, read_table(*about, shard="2/2")])
    for shard in ("0/2", "3/2", "1/0", "half", "-1/2", "1/2/3", ""):
        with pytest.raises(ValueError, match="i/n with i of 1 to n"):
            read_table(*about, shard=shard)
