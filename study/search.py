"""Random search: the trials that every compared method gets, drawn from its published ranges.

    python study/search.py       print the section `search` of study/params/study.yaml

The first trial of a method is its published default at the learning rate of CAM, the others are
drawn. All have half the epochs of the study (section `search_budget`) and one seed, and are judged
by Top-1 localization error on `train-fullsup`. CAM and the background method were tuned by hand
before (docs/exploration.csv), with more trials than these; `background_class` and `background_norm`
are CAM's network with CAM's settings.
"""

import sys
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from ruamel.yaml import YAML

DRAWN = 4  # trials beside the default
DEFAULT_RATE = 0.005  # CAM's

Draw = Callable[[np.random.Generator], float | int]


def uniform(low: float, high: float) -> Draw:
    """A number between low and high, of two digits."""
    return lambda rng: round(float(rng.uniform(low, high)), 2)


def log_uniform(low: float, high: float) -> Draw:
    """A number between low and high, equally likely in every octave, of two significant digits."""
    return lambda rng: float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.2g}")


def whole(low: int, high: int) -> Draw:
    """An integer from low to high."""
    return lambda rng: int(rng.integers(low, high + 1))


# Sizes in pixels are those of the papers scaled from 224 px to 96 px. Sources are named in the
# methods' files; where a paper gives one value, the range is around it.
RATE = {"learning_rate": log_uniform(0.001, 0.01)}
SPACE: dict[str, dict[str, Draw]] = {
    "has": {"patch_size": whole(4, 24), "hide_rate": uniform(0.2, 0.8)},
    "acol": {"erase_threshold": uniform(0.5, 0.9)},
    "spg": {
        **{"late_high": uniform(0.5, 0.8), "late_low": uniform(0.01, 0.1)},
        **{"early_high": uniform(0.4, 0.7), "early_low": uniform(0.02, 0.1)},
        **{"fused_high": uniform(0.5, 0.8), "fused_low": uniform(0.05, 0.2)},
    },
    "adl": {"drop_rate": uniform(0.25, 0.9), "gamma": uniform(0.6, 0.95)},
    "cutmix": {"cutmix_beta": uniform(0.3, 2.0), "cutmix_rate": uniform(0.3, 1.0)},
    "bas": {"area_weight": uniform(0.5, 2.0), "guidance_weight": uniform(0.0, 1.0)},
}


def trials(seed: int = 0) -> dict[str, Mapping[str, object]]:
    """Settings of every trial by its name ``<method>_<number>``; the same seed, the same trials."""
    trials: dict[str, Mapping[str, object]] = {}
    for method, space in SPACE.items():
        trials[f"{method}_0"] = {"method": method, "learning_rate": DEFAULT_RATE}
        for number in range(1, DRAWN + 1):
            name = f"{method}_{number}"  # a trial does not depend on how many others there are
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            drawn = {key: draw(rng) for key, draw in (RATE | space).items()}
            trials[name] = {"method": method} | drawn
    return trials


def main() -> int:
    """Print the trials as YAML."""
    YAML().dump({"search": trials()}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
