"""Explorers for JupyterLab: of evaluated runs, and of a background set with its audit.

Where no widgets can be shown (a page, GitHub, print) a static figure of the first state is shown.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from wsol.datasets.backgrounds.manifest import decide
from wsol.datasets.images import load_images
from wsol.evaluation.boxes import FRAME, largest_box, score_map
from wsol.evaluation.metrics import DELTA
from wsol.evaluation.predict import run_network
from wsol.inference import explorer
from wsol.inference.explorer import Gallery
from wsol.inference.export import overlay
from wsol.inference.settings import open_run
from wsol.report.examples import MapAndBox

SIDE = 280  # of an image on the screen, pixels
WIDGET = "application/vnd.jupyter.widget-view+json"
UNDECIDED, KEEP, DROP = "undecided", "keep", "drop"
SLIDER = dict(min=0, max=0.999, step=0.001, value=0.5, readout_format=".3f")

Panel = tuple[NDArray[np.uint8], str]  # image (H, W, 3) and caption


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode an image (H, W, 3) as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


class Explorer:
    """A box of widgets with a static figure (H, W, 3), `still`, for where there are none."""

    box: widgets.Widget
    still: Callable[[], NDArray[np.uint8]]

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        still = base64.b64encode(png(self.still())).decode("ascii")
        return {WIDGET: view, "image/png": still, "text/plain": type(self).__name__}


def _control(kind: type, description: str, **settings: object) -> widgets.Widget:
    return kind(description=description, layout=widgets.Layout(width="420px"), **settings)


class RunExplorer(Explorer):
    """Maps, boxes at any threshold and IoU of evaluated runs, also side by side."""

    def __init__(self, gallery: Gallery) -> None:
        """Show a gallery of `wsol.inference.explorer.open_gallery`, its last run first."""
        self.gallery = gallery
        run, menu = gallery.runs[-1], widgets.Dropdown
        self.run = _control(menu, "run", options=gallery.runs, value=run)
        self.map = _control(menu, "map", options=gallery.kinds(run))
        self.order = _control(menu, "order", options=explorer.orders(gallery))
        self.image = _control(menu, "image")
        self.tau = _control(widgets.FloatSlider, "tau", **SLIDER)
        self.reset = _control(widgets.Button, "tau of train-fullsup")
        together = "all runs side by side, each at its own tau"
        self.side_by_side = _control(widgets.Checkbox, together, indent=False)
        self.iou = widgets.HTML()
        self.images = widgets.HBox(layout=widgets.Layout(flex_flow="row wrap"))
        for control in (self.image, self.tau, self.side_by_side):
            control.observe(self._show, "value")
        self.run.observe(self._run_changed, "value")
        self.map.observe(self._map_changed, "value")
        self.order.observe(self._order_changed, "value")
        self.reset.on_click(self._reset_tau)
        left = [self.run, self.map, self.order, self.image, self.tau, self.reset, self.side_by_side]
        self.box = widgets.VBox([widgets.VBox([*left, self.iou]), self.images])
        self._map_changed()

    def _run_changed(self, *_: object) -> None:
        kinds = self.gallery.kinds(self.run.value)
        kept = self.map.value if self.map.value in kinds else kinds[0]
        self.map.options, self.map.value = kinds, kept
        self._map_changed()

    def _map_changed(self, *_: object) -> None:
        if self.map.value is not None:  # None while the options change
            self._reset_tau()
            self._order_changed()

    def _reset_tau(self, *_: object) -> None:
        self.tau.value = explorer.chosen_tau(self.gallery, self.run.value, self.map.value)

    def _order_changed(self, *_: object) -> None:
        numbers = explorer.numbers(self.gallery, self.run.value, self.map.value, self.order.value)
        names = self.gallery.rows["image_id"]
        options = [(f"{i + 1}. {names.iloc[n]}", n) for i, n in enumerate(numbers)]
        self.image.options = options
        self.image.value = numbers[0] if numbers else None
        self._show()

    def _maps(self) -> list[tuple[str, float, MapAndBox]]:
        if self.image.value is None:
            return []
        gallery, number, kind = self.gallery, self.image.value, self.map.value
        taus = {self.run.value: self.tau.value}
        if self.side_by_side.value:
            others = [r for r in gallery.runs if kind in gallery.kinds(r) and r not in taus]
            taus |= {run: explorer.chosen_tau(gallery, run, kind) for run in others}
        maps = {r: explorer.map_and_box(gallery, r, kind, number, t) for r, t in taus.items()}
        return [(run, tau, maps[run]) for run, tau in taus.items()]

    def _panels(self, maps: list[tuple[str, float, MapAndBox]]) -> list[Panel]:
        number, kind = self.image.value, self.map.value
        panels = [(explorer.render(self.gallery, number), "image, ground truth in white")]
        for run, tau, one in maps:
            caption = f"{explorer.title(run, kind)}: IoU {one.iou:.2f} at tau {tau:.3f}"
            panels.append((explorer.render(self.gallery, number, one), caption))
        return panels

    def _show(self, *_: object) -> None:
        maps = self._maps()
        if not maps:
            self.iou.value = "No image of this kind."
            self.images.children = ()
            return
        key, (run, _, one) = (self.map.value, self.image.value), maps[0]
        verdict = "right" if one.iou >= DELTA else "wrong"
        prediction = escape(explorer.describe_prediction(self.gallery, run, *key))
        self.iou.value = f"<b>IoU {one.iou:.2f}</b>, box {verdict}; class: {prediction}"
        self.images.children = tuple(_panel(*panel) for panel in self._panels(maps))

    def still(self) -> NDArray[np.uint8]:
        if not (maps := self._maps()):
            return np.full((FRAME, FRAME, 3), 255, np.uint8)
        return np.concatenate([image for image, _ in self._panels(maps)], axis=1)


def _panel(image: NDArray[np.uint8], caption: str) -> widgets.VBox:
    panel = widgets.Image(value=png(image), width=SIDE, height=SIDE)
    text = widgets.HTML(escape(caption), layout=widgets.Layout(width=f"{SIDE}px"))
    return widgets.VBox([panel, text])


class BackgroundExplorer(Explorer):
    """An audited background set, images most likely to have an object first.

    The buttons write `keep` or `drop` into the manifest at once, see
    `wsol.datasets.backgrounds.manifest`.
    """

    def __init__(self, folder: str | Path, ranked: pd.DataFrame, run: str | Path) -> None:
        """Show a set; ranked : of `wsol.inference.audit.audit`; run : which it was ranked with."""
        self.folder, self.ranked = Path(folder), ranked
        self.decisions = dict(zip(ranked["file"], ranked["decision"], strict=True))
        self.network, self.config, _ = open_run(run, "class")
        scores = enumerate(zip(ranked["file"], ranked["score"], strict=True))
        options = [(f"{i + 1}. {file} ({score:.2f})", i) for i, (file, score) in scores]
        self.image = _control(widgets.Dropdown, "image", options=options)
        self.tau = _control(widgets.FloatSlider, "tau", **SLIDER)
        choices = [UNDECIDED, KEEP, DROP]
        self.decision = widgets.ToggleButtons(options=choices, description="decision")
        self.next = _control(widgets.Button, "next")
        self.counts = widgets.HTML()
        self.images = widgets.HBox()
        self.image.observe(self._image_changed, "value")
        self.tau.observe(self._show, "value")
        self.decision.observe(self._decide, "value")
        self.next.on_click(self._show_next)
        controls = [self.image, self.next, self.tau, self.decision, self.counts]
        self.box = widgets.VBox([*controls, self.images])
        self._image_changed()

    def _file(self) -> str:
        return self.ranked["file"].iloc[self.image.value]

    def _show_next(self, *_: object) -> None:
        self.image.value = min(self.image.value + 1, len(self.ranked) - 1)

    def _image_changed(self, *_: object) -> None:
        self.decision.value = self.decisions[self._file()] or UNDECIDED
        self._show()

    def _decide(self, change: dict) -> None:
        file = self._file()
        if change["new"] in (KEEP, DROP) and change["new"] != self.decisions[file]:
            dropped = [file] if change["new"] == DROP else []
            decide(self.folder, drop=dropped, keep=[] if dropped else [file])
            self.decisions[file] = change["new"]
        self._count()

    def _count(self) -> None:
        decided = list(self.decisions.values())
        dropped, kept = decided.count(DROP), decided.count(KEEP)
        self.counts.value = f"{dropped} dropped, {kept} kept, {len(decided)} in the set"

    def _maps(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        path = self.folder / self._file()
        image = load_images([path], FRAME)[0].numpy().transpose(1, 2, 0)
        outputs = run_network(self.network, load_images([path], self.config.input_size))
        maps = outputs.foreground if outputs.foreground is not None else outputs.class_maps
        score = score_map(maps[0].amax(dim=0).double().numpy())
        return image, overlay(image, score, largest_box(score, self.tau.value))

    def _show(self, *_: object) -> None:
        image, scores = self._maps()
        caption = "its object scores, from their minimum to their maximum"
        self.images.children = _panel(image, "image"), _panel(scores, caption)
        self._count()

    def still(self) -> NDArray[np.uint8]:
        return np.concatenate(self._maps(), axis=1)


def explore(evaluations: Sequence[str | Path], data: str | Path) -> RunExplorer:
    """Return an explorer of evaluated runs.

    evaluations : folders named <method>-<seed> that hold localization/ and maps/
    data : folder of the data set

    Raises FileNotFoundError if one of them has no localization tables.
    """
    return RunExplorer(explorer.open_gallery([Path(e) for e in evaluations], Path(data)))
