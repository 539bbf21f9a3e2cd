"""The birds: what makes them an honest set, and that they come as CUB-200-2011 does."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from dataset_files import files_below
from PIL import Image

from wsol.baselines.references import FRAME, constant_box
from wsol.datasets.backgrounds.manifest import read_background_set
from wsol.datasets.birds import (
    SPECIES,
    BirdsConfig,
    DrawnImage,
    background_image,
    bird_image,
    dataset,
    draw_birds,
    image,
    scenes,
)
from wsol.datasets.birds.bird import paint_bird
from wsol.datasets.birds.pose import Sitter, draw_pose
from wsol.datasets.cub import read_cub
from wsol.datasets.index import parse_boxes
from wsol.evaluation.boxes import box_iou, resize_boxes

SMALL = BirdsConfig(n_train=21, n_fullsup=3, n_test=4, n_background=5, seed=3)
LONGER = BirdsConfig(n_train=22, n_fullsup=4, n_test=5, n_background=6, seed=3)


def rng_of(*seed: int) -> np.random.Generator:
    return np.random.default_rng(list(seed))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """The set SMALL on disk, drawn by two workers."""
    root = tmp_path_factory.mktemp("birds") / "a set"
    draw_birds(root, SMALL, workers=2)
    return root


@pytest.fixture(scope="module")
def index(root) -> pd.DataFrame:
    return read_cub(root, root / "fullsup")


@pytest.fixture(scope="module")
def images() -> list[DrawnImage]:
    """Two of each class."""
    return [bird_image(rng_of(11, i), SPECIES[i % len(SPECIES)]) for i in range(2 * len(SPECIES))]


# --- on disk


def test_a_longer_set_by_one_worker_begins_like_a_shorter_one_by_two(root, tmp_path):
    draw_birds(tmp_path, LONGER, workers=1)
    short, long = files_below(root), files_below(tmp_path)
    drawn = {name for name in short if name.endswith((".jpg", ".png"))}
    assert len(drawn) == 2 * (21 + 4) + 3 + 5  # images and masks, without masks in the others
    assert all(short[name] == long[name] for name in drawn)
    assert len([name for name in long if name.endswith((".jpg", ".png"))]) == len(drawn) + 6


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    few = dict(n_train=1, n_fullsup=1, n_test=1, n_background=1)
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        draw_birds(tmp_path / name, BirdsConfig(**few, seed=seed), workers=1)
    one, two, other = (files_below(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one if name.endswith(".jpg"))
    assert len({one[name] for name in one if name.endswith(".jpg")}) == 4  # no image twice


def test_the_reader_of_cub_reads_the_birds(index):
    counts = index["split"].value_counts().to_dict()
    assert counts == {"train-weaksup": 21, "train-fullsup": 3, "test": 4}
    assert (index["mask"] != "").tolist() == (index["split"] != "train-fullsup").tolist()
    own = index["class_name"].str.removeprefix("0").str.partition(".")[2]
    assert own.tolist() == [SPECIES[label].name for label in index["label"]]
    train = index[index["split"] == "train-weaksup"]
    assert set(train["label"]) == set(range(len(SPECIES)))


def test_boxes_enclose_the_visible_bird_and_nothing_else(root, index):
    masked = index[index["mask"] != ""]
    for row in masked.itertuples():
        mask = np.asarray(Image.open(root / row.mask)) > 127
        y, x = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
        tight = [x[0], y[0], x[-1] + 1, y[-1] + 1]
        assert parse_boxes(row.boxes).tolist() == [tight]


def test_the_background_set_comes_with_its_manifest(root):
    table = read_background_set(root / "background")
    assert list(table["file"]) == [f"background_{i:04d}.jpg" for i in range(5)]
    assert set(table["source"]) == {"wsol.datasets.birds seed=3 gap=0.3"}
    assert set(table["licence"]) == {"MIT"}


def test_a_set_without_background_images_can_be_drawn(tmp_path):
    draw_birds(tmp_path, BirdsConfig(n_train=1, n_fullsup=1, n_test=1, n_background=0), workers=1)
    assert len(read_cub(tmp_path, tmp_path / "fullsup")) == 3


# --- the objects


def test_objects_have_the_sizes_that_are_promised_and_some_are_cut_off(images):
    shares, cut = [], 0
    for drawn in images:
        assert drawn.image.shape[:2] == drawn.mask.shape
        assert drawn.mask.mean() >= 0.08
        x, y, width, height = drawn.box
        shares.append(width * height / drawn.mask.size)
        cut += min(x, y) == 0 or x + width == drawn.mask.shape[1] or y + height == len(drawn.mask)
    assert 2 * min(shares) < max(shares) <= 0.60
    assert 0.02 < cut / len(images) < 0.8
    assert len({drawn.image.shape for drawn in images}) >= 3


def test_a_head_is_at_least_ten_pixels_wide_at_the_networks_input():
    sitters = [image._place_sitter(rng_of(i), (216, 288)) for i in range(300)]
    widths = [2 * s.head_radius / 288 * 96 for s in sitters if s is not None]
    assert len(widths) > 50
    assert min(widths) >= 10


def test_no_constant_box_serves_most_birds(images):
    rows = [
        dict(boxes=f"{x} {y} {x + w} {y + h}", width=p.mask.shape[1], height=p.mask.shape[0])
        for p in images
        for x, y, w, h in [p.box]
    ]
    box = np.round(constant_box(pd.DataFrame(rows)) * FRAME).astype(int)
    truth = [resize_boxes(parse_boxes(r["boxes"]), (r["width"], r["height"])) for r in rows]
    assert (box_iou(box[None], np.concatenate(truth)) >= 0.5).mean() < 0.6


def test_foliage_hides_parts_of_some_birds(monkeypatch):
    hidden = []
    occlude = image._occlude

    def watched(scene, rng, sitter, mask):
        left = occlude(scene, rng, sitter, mask)
        hidden.append(1 - (left > 127).sum() / (mask > 127).sum())
        return left

    monkeypatch.setattr(image, "_occlude", watched)
    for i in range(12):
        bird_image(rng_of(5, i), SPECIES[0])
    assert any(share > 0.02 for share in hidden)
    assert max(hidden) <= 0.31


# --- the classes


def painted(species: int, cue: str, seed: int) -> tuple[np.ndarray, np.ndarray, Sitter]:
    """Layer, mask and sitter of one bird; all that is random follows from the seed."""
    rng = rng_of(21, seed)
    sitter = Sitter(draw_pose(rng), 90.0, np.array([144.0, 120.0]))
    palette, light = np.array(scenes.HABITATS[0].palette, float), np.array([0.3, -0.9])
    grain = np.zeros((240, 288), dtype=np.float32)
    return *paint_bird(rng, sitter, SPECIES[species], palette, light, grain, cue), sitter


def distances(layers: tuple[np.ndarray, np.ndarray], sitter: Sitter) -> np.ndarray:
    """Distances, in head radii, of the differing pixels from the head's centre."""
    y, x = (np.abs(layers[0].astype(int) - layers[1]).max(axis=2) > 20).nonzero()
    return np.hypot(x - sitter.head[0], y - sitter.head[1]) / sitter.head_radius


def test_there_are_at_least_twenty_classes_and_no_two_alike():
    assert len({(s.main, s.second, s.pattern, s.crest, s.bill) for s in SPECIES}) >= 20
    assert len({s.name for s in SPECIES}) == len(SPECIES)


@pytest.mark.parametrize("seed", range(4))
def test_two_classes_differ_in_the_head_alone(seed):
    one, mask, sitter = painted(0, "head", seed)
    for other in (4, 9, 15):
        found = distances((one, painted(other, "head", seed)[0]), sitter)
        assert len(found) > 50
        assert found.max() < 2.6  # a long bill or a crest is what reaches farthest
        far = np.hypot(*(np.indices(mask.shape) - sitter.head[::-1, None, None]))
        assert (mask[far > 2.6 * sitter.head_radius] > 127).sum() > 200  # there is a body


@pytest.mark.parametrize("seed", range(2))
def test_with_the_cue_on_the_body_two_classes_differ_all_over(seed):
    one, mask, sitter = painted(0, "body", seed)
    found = distances((one, painted(9, "body", seed)[0]), sitter)
    assert found.max() > 3
    assert len(found) > 0.5 * (mask > 127).sum()


# --- the background set


def scenes_drawn(monkeypatch, gap: float, n: int = 400) -> tuple[Counter, np.ndarray, set[float]]:
    """Names of the scenes that are drawn at a gap, their scales, their shifts of palette."""
    names, scales, shifts = Counter(), [], set()

    def record(rng, habitat, shape, scale=1.0, palette_shift=0.0):
        names[habitat.name] += 1
        scales.append(scale)
        shifts.add(palette_shift)

    monkeypatch.setattr(scenes, "paint_scene", record)
    for i in range(n):
        scenes.background_scene(rng_of(31, i), (10, 10), gap)
    return names, np.array(scales), shifts


HABITATS = {habitat.name for habitat in scenes.HABITATS}
FOREIGN = {habitat.name for habitat in scenes.FOREIGN}


def test_no_gap_draws_just_what_is_behind_the_birds_and_a_full_gap_none_of_it(monkeypatch):
    names, scales, shifts = scenes_drawn(monkeypatch, gap=0.0)
    assert (set(names), set(scales), shifts) == (HABITATS, {1.0}, {0.0})
    assert set(scenes_drawn(monkeypatch, gap=1.0)[0]) == FOREIGN
    assert not HABITATS & FOREIGN


def test_the_gap_of_the_headline_overlaps_with_the_habitats_and_is_not_the_same(monkeypatch):
    names, scales, shifts = scenes_drawn(monkeypatch, gap=BirdsConfig().gap)
    foreign = sum(names[name] for name in FOREIGN) / names.total()
    assert abs(foreign - BirdsConfig().gap) < 0.1
    assert 0.1 < foreign < 0.9
    assert 0 < len(HABITATS - set(names)) < len(HABITATS)  # some habitats are missing
    assert scales.std() > 0.05
    assert max(shifts) > 5


def test_background_pictures_contain_no_bird(monkeypatch):
    def refuse(*args):
        raise AssertionError("a bird was painted")

    monkeypatch.setattr(image, "paint_bird", refuse)
    for gap in (0.0, 0.5, 1.0):
        drawn = background_image(rng_of(41), gap)
        assert not drawn.mask.any()
        assert drawn.box == (0, 0, 0, 0)
        assert drawn.image.shape[:2] in image.SHAPES
    with pytest.raises(AssertionError, match="a bird was painted"):
        bird_image(rng_of(41), SPECIES[0])


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.3, 0.2, 0.4), (1.0, 1, 1)])
def test_contamination_is_the_share_of_background_images_with_a_bird(monkeypatch, share, low, high):
    monkeypatch.setattr(dataset, "bird_image", lambda *_: 1)
    monkeypatch.setattr(dataset, "background_image", lambda *_: 0)
    config = BirdsConfig(contamination=share)
    jobs = [dataset._Job(config, "background", i, 0, Path(), "") for i in range(300)]
    found = np.mean([job._draw_image(rng_of(51, job.number)) for job in jobs])
    assert low <= found <= high


def test_noise_in_the_place_of_scenes_has_no_scene_in_it(monkeypatch):
    monkeypatch.setattr(dataset, "background_image", None)
    config = BirdsConfig(background="noise")
    drawn = dataset._Job(config, "background", 0, 0, Path(), "")._draw_image(rng_of(52))
    assert drawn.image.shape[:2] in image.SHAPES
    assert not drawn.mask.any()
    pixels = drawn.image.astype(float)
    assert pixels.std() == pytest.approx(256 / 12**0.5, rel=0.02)  # of a uniform distribution
    neighbours = np.corrcoef(pixels[:, 1:].ravel(), pixels[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.02


# --- nothing gives the object away


def auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Share of pairs in which the pixel inside the object has the higher value."""
    order = np.searchsorted(np.sort(outside), inside, side="left")
    ties = np.searchsorted(np.sort(outside), inside, side="right")
    return float((order + ties).mean() / (2 * len(outside)))


def statistics(image: np.ndarray) -> dict[str, np.ndarray]:
    """What may be read off a pixel without learning anything, each (H, W)."""
    pixels = image.astype(float)
    red, green, blue = np.moveaxis(pixels, 2, 0)
    return {
        "red": red,
        "green": green,
        "blue": blue,
        "brightness": pixels.mean(axis=2),
        "saturation": pixels.max(axis=2) - pixels.min(axis=2),
        "warmth": red - blue,
        "greenness": green - (red + blue) / 2,
        "last bits": (image.sum(axis=2) % 4).astype(float),
    }


def test_no_statistic_of_a_pixel_gives_the_object_away(images):
    values = [(statistics(p.image), p.mask) for p in images]
    for name in values[0][0]:
        inside, outside = (
            np.concatenate([found[name][mask == side] for found, mask in values])[::5]
            for side in (True, False)
        )
        assert 0.3 < auc(inside, outside) < 0.7, name


def test_object_images_and_background_images_look_alike_as_wholes(images):
    others = [background_image(rng_of(61, i), 0.0).image for i in range(40)]
    # A bird adds contrast to its image, so that alone may tell some images apart, not all.
    for measure, limit in ((np.mean, 0.7), (np.std, 0.85)):
        a = np.array([measure(p.image) for p in images])
        b = np.array([measure(image) for image in others])
        assert 1 - limit < auc(a, b) < limit, (measure.__name__, auc(a, b))


# --- refusals


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cue": "tail"}, "cue is 'tail'"),
        ({"background": "sea"}, "background is 'sea'"),
        ({"gap": 1.5}, "gap is 1.5"),
        ({"contamination": -0.1}, "contamination is -0.1"),
        ({"n_train": 0}, "n_train is 0"),
        ({"n_fullsup": 0}, "n_fullsup is 0"),
        ({"n_test": -1}, "n_test is -1"),
    ],
)
def test_contradictions_are_refused_in_plain_words(settings, words):
    with pytest.raises(ValueError, match=words):
        BirdsConfig(**settings)


@pytest.mark.parametrize(
    ("leaf", "stays"),  # a bird in rows 10 to 89, its head in a circle of radius 5 at (50, 20)
    [((10, 20, 10, 20), True), ((14, 27, 40, 60), False), ((50, 90, 10, 90), False)],
    ids=["in front of a corner", "in front of the head", "in front of half of the body"],
)
def test_foliage_hides_neither_the_head_nor_much_of_the_body(monkeypatch, leaf, stays):
    def foliage(scene, rng, near):
        covered = np.zeros((100, 100), np.uint8)
        covered[leaf[0] : leaf[1], leaf[2] : leaf[3]] = 255
        scene.canvas[covered > 0] = 7
        return covered

    monkeypatch.setattr(image, "foliage", foliage)
    scene = SimpleNamespace(canvas=np.zeros((100, 100, 3), np.uint8))
    bird = np.zeros((100, 100), np.uint8)
    bird[10:90, 10:90] = 255
    sitter = SimpleNamespace(head=(50, 20), head_radius=5.0)
    mask = image._occlude(scene, np.random.default_rng(0), sitter, bird)
    assert (scene.canvas == 7).any() == stays
    assert (mask == bird).all() != stays
