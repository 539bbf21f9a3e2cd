"""Rank the images of a background set by how likely they are to contain an object.

Background images from elsewhere are never quite free of objects, and the method is taught that
they are. A good ranking puts such images first, so that a person checks the first twenty instead of
thousands. The decisions go into the manifest (`wsol.datasets.backgrounds.manifest`).

Which score ranks best was measured: drawn birds, 400 background images of which a share has a
bird, area under the ROC curve and share of the images with a bird among the first 20 % (a random
ranking has 0.50 and 20 %). The background run is trained on the very set that it ranks,
contamination included.

    training       weak: 800 images, 6 epochs  weak             good: 2,400 images, 10 epochs
                   (accuracy 15-33 %)                           (accuracy 81-96 %)
    with a bird    10 %, 3 seeds               30 %, 2 seeds    10 %, 2 seeds

    CAM
      class-map    0.76, 50 %                  0.78, 38 %       0.97, 95 %
      max-logit    0.53, 31 %                  0.54, 28 %       0.91, 87 %
      energy       0.40, 21 %                  0.43, 22 %       0.91, 87 %
    background
      foreground   0.94, 86 %                  0.92, 58 %       0.98, 96 %
      class-map    0.91, 77 %                  0.89, 51 %       0.97, 95 %
      max-logit    0.80, 50 %                  0.74, 40 %       0.64, 36 %
      energy       0.78, 50 %                  0.71, 37 %       0.37, 14 %

(With 30 % no ranking can have more than 67 % among the first 20 %.) Scores of maps rank better
than scores of the whole image. So the default is "foreground" where there is a foreground head,
else "class-map". A run with a foreground head finds most objects even after little training; a CAM
must have learnt its classes first. These are drawn birds, and one kind of object.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from wsol.datasets.backgrounds.manifest import read_manifest, record
from wsol.datasets.images import load_images
from wsol.evaluation.predict import run_network
from wsol.inference.settings import open_run
from wsol.methods import Outputs

TOP = 0.1  # share of highest locations of S, whose mean is "foreground"


def _foreground(outputs: Outputs) -> Tensor:
    flat = outputs.foreground.flatten(1)  # (B, h w)
    return flat.topk(max(1, round(TOP * flat.shape[1])), dim=1).values.mean(1)


SCORES: dict[str, Callable[[Outputs], Tensor]] = {
    "foreground": _foreground,
    "class-map": lambda outputs: outputs.class_maps.amax(dim=(1, 2, 3)),
    "max-logit": lambda outputs: outputs.logits.amax(dim=1),
    "energy": lambda outputs: outputs.logits.logsumexp(dim=1),
}


def object_scores(
    paths: list[Path], run: str | Path, score: str = "", batch_size: int = 64
) -> tuple[NDArray[np.float32], str]:
    """Score N images, (N,): higher where an object is more likely; also the name of the score.

    score : key of `SCORES`; by default "foreground" where the run has a foreground head, else
        "class-map"

    Raises FileNotFoundError if the run has no weights, ValueError if the score is unknown or the
    run lacks what it needs.
    """
    if score not in ("", *SCORES):
        raise ValueError(f"score is {score!r}; known: {', '.join(SCORES)}")
    network, config, _ = open_run(run, "foreground" if score == "foreground" else "class")
    scores = []
    for start in range(0, len(paths), batch_size):
        images = load_images(paths[start : start + batch_size], config.input_size)
        outputs = run_network(network, images)
        score = score or ("class-map" if outputs.foreground is None else "foreground")
        scores.append(SCORES[score](outputs).numpy())
    return np.concatenate(scores), score


def audit(folder: str | Path, run: str | Path, score: str = "") -> pd.DataFrame:
    """Score all images of a background set, write the scores into its manifest, and rank them.

    Returns the rows of the manifest, dropped ones included, with `score` as a number, highest
    first. Raises what `object_scores` and `read_manifest` raise.
    """
    folder = Path(folder)
    rows = read_manifest(folder)
    scores, name = object_scores([folder / file for file in rows["file"]], run, score)
    texts = [f"{value:.5g}" for value in scores]
    record(folder, {file: {"score": text} for file, text in zip(rows["file"], texts, strict=True)})
    ranked = rows.assign(score=scores).sort_values("score", ascending=False, kind="stable")
    ranked.attrs["score"] = name
    return ranked.reset_index(drop=True)
