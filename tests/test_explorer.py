"""The explorers: what they show is what the evaluation counted."""

from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from wsol.datasets.backgrounds.manifest import read_manifest
from wsol.evaluation.boxes import FRAME
from wsol.evaluation.failures import failure_shares
from wsol.evaluation.metrics import column_of
from wsol.inference import explorer
from wsol.inference.audit import audit
from wsol.inference.widgets import WIDGET, BackgroundExplorer, explore
from wsol.report.examples import load_examples

RUNS = ("cam-0", "background-0")


@pytest.fixture(scope="module")
def shown(tiny_runs):
    return explore([tiny_runs / "evaluate" / name for name in RUNS], tiny_runs / "birds")


@pytest.mark.parametrize("tau", [0.1, 0.437, 0.8])
def test_box_and_iou_are_those_of_the_evaluation(shown, tau: float) -> None:
    gallery = shown.gallery
    assert gallery.runs == list(RUNS)
    assert set(gallery.kinds("background-0")) == {"class", "foreground", "product"}
    for key, (_, _, test, _) in gallery.sources.items():
        for number in (0, 7, 19):
            drawn = explorer.map_and_box(gallery, *key, number, tau)
            assert drawn.box.tolist() == test.level_boxes.at(tau)[number].tolist()
            counted = test.iou_largest[number, column_of(test, tau)]
            assert drawn.iou == pytest.approx(counted, abs=1e-4)


def test_examples_are_best_and_worst_with_the_iou_that_the_evaluation_counted(shown) -> None:
    gallery, rule = shown.gallery, ("background-0", "product")
    about = gallery.rows, gallery.root, dict(gallery.sources), rule
    worst = explorer.numbers(gallery, *rule, explorer.WORST)
    for number, example in zip((worst[-1], worst[0]), load_examples(*about, "ab"), strict=True):
        assert set(example.maps) == set(gallery.sources)
        for key, drawn in example.maps.items():
            test = gallery.sources[key][2]
            counted = test.iou_largest[number, column_of(test, explorer.chosen_tau(gallery, *key))]
            assert drawn.iou == pytest.approx(counted, abs=1e-4)


def test_orders_are_rankings_and_failures_are_those_of_the_report(shown) -> None:
    gallery = shown.gallery
    images = len(gallery.rows)
    worst = explorer.numbers(gallery, "cam-0", "class", explorer.WORST)
    tau = explorer.chosen_tau(gallery, "cam-0", "class")
    ious = [explorer.map_and_box(gallery, "cam-0", "class", n, tau).iou for n in worst]
    assert ious == sorted(ious)
    assert explorer.numbers(gallery, "cam-0", "class", explorer.BEST) == worst[::-1]
    assert explorer.numbers(gallery, "cam-0", "class", explorer.FIRST) == list(range(images))
    test = gallery.sources["cam-0", "class"][2]
    shares = failure_shares(test.level_boxes.at(tau), test.level_boxes.ground_truth())
    for reason, share in shares["gt_known_loc_error"].items():
        if reason not in ("right", "wrong class"):
            numbers = explorer.numbers(gallery, "cam-0", "class", f"failure: {reason}")
            assert len(numbers) == round(share * images / 100)
    wrong = explorer.numbers(gallery, "cam-0", "class", "failure: wrong class")
    assert set(wrong) == set(np.flatnonzero(test.rows["rank"] > 0))
    with pytest.raises(ValueError, match="unknown order"):
        explorer.numbers(gallery, "cam-0", "class", "prettiest first")


def test_the_slider_moves_the_box_and_the_button_brings_it_back(shown) -> None:
    shown.run.value, shown.map.value = "background-0", "foreground"
    shown.order.value = explorer.FIRST
    own, before = shown.tau.value, (shown.iou.value, shown.still().tobytes())
    shown.tau.value = 0.9 if own < 0.5 else 0.1
    assert (shown.iou.value, shown.still().tobytes()) != before
    shown.reset.click()
    assert shown.tau.value == own
    assert (shown.iou.value, shown.still().tobytes()) == before


def test_other_runs_keep_the_map_where_they_have_it(shown) -> None:
    shown.run.value, shown.map.value = "background-0", "product"
    shown.run.value = "cam-0"
    assert shown.map.value == "class"
    assert shown.tau.value == pytest.approx(explorer.chosen_tau(shown.gallery, "cam-0", "class"))
    assert "IoU 0." in shown.iou.value


def test_side_by_side_has_an_image_of_every_run(shown) -> None:
    shown.map.value = "class"
    shown.side_by_side.value = True
    assert len(shown.images.children) == 1 + len(RUNS)
    assert shown.still().shape == (FRAME, FRAME * (1 + len(RUNS)), 3)
    shown.side_by_side.value = False
    assert len(shown.images.children) == 2


def test_an_order_without_images_says_so(shown) -> None:
    gallery, run, kind = shown.gallery, shown.run.value, shown.map.value
    orders = explorer.orders(gallery)
    empty = [o for o in orders if not explorer.numbers(gallery, run, kind, o)]
    shown.order.value = empty[0]
    assert shown.iou.value == "No image of this kind."
    shown.order.value = explorer.WORST
    assert "IoU" in shown.iou.value


def test_without_widgets_there_is_a_figure(shown, tmp_path: Path) -> None:
    assert set(shown._repr_mimebundle_()) == {WIDGET, "image/png", "text/plain"}
    with pytest.raises(FileNotFoundError, match="no tables of cam-0"):
        explore([tmp_path / "cam-0"], shown.gallery.root)


def test_decisions_of_the_background_explorer_are_in_the_manifest(tiny_runs, tmp_path) -> None:
    run = tiny_runs / "train" / "background-0"
    folder = copytree(tiny_runs / "birds" / "background", tmp_path / "background")
    ranked = audit(folder, run)
    background = BackgroundExplorer(folder, ranked, run)
    background.decision.value = "drop"
    background.next.click()
    assert background.image.value == 1
    assert background.decision.value == "undecided"
    background.decision.value = "keep"
    said = read_manifest(folder).set_index("file")["decision"]
    assert said[ranked["file"][0]] == "drop"
    assert said[ranked["file"][1]] == "keep"
    assert "1 dropped, 1 kept" in background.counts.value
    background.image.value = 0
    assert background.decision.value == "drop"
    before = background.still().tobytes()
    background.tau.value = 0.95
    assert background.still().tobytes() != before
