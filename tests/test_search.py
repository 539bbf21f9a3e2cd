"""The random search: its trials are the ones in the params file, and within their ranges."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from wsol.methods import get_method
from wsol.notebook.parameters import load_yaml
from wsol.report.names import METHODS
from wsol.training.config import config_from

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "study"))
import search  # noqa: E402

PARAMS = load_yaml((ROOT / "study" / "params" / "study.yaml").read_text(encoding="utf-8"))


def test_the_params_file_has_the_trials_that_are_drawn() -> None:
    assert PARAMS["search"] == search.trials()
    assert set(search.SPACE) < set(PARAMS["compared"])


def test_every_method_gets_as_many_trials_the_first_with_its_published_settings() -> None:
    drawn = search.trials()
    for method in search.SPACE:
        names = [name for name, settings in drawn.items() if settings["method"] == method]
        assert names == [f"{method}_{i}" for i in range(search.DRAWN + 1)]
        assert drawn[names[0]] == {"method": method, "learning_rate": search.DEFAULT_RATE}
    assert search.DRAWN + 1 >= 5


def test_every_trial_is_a_training_that_can_be_configured() -> None:
    for settings in search.trials(seed=3).values():
        config = config_from(dict(settings))
        own = set(settings) - {"method", "learning_rate"}
        assert set(config.method_config) == own
        get_method(config.method).Config(**config.method_config)
        assert 0.001 <= config.learning_rate <= 0.01


def test_trials_do_not_depend_on_each_other_and_do_on_the_seed(monkeypatch) -> None:
    before, other = search.trials(), search.trials(seed=1)
    monkeypatch.setitem(search.SPACE, "new", {})
    monkeypatch.setattr(search, "DRAWN", search.DRAWN + 2)
    assert before.items() <= search.trials().items()
    assert before["has_1"] != other["has_1"]


def test_the_command_prints_them(capsys) -> None:
    assert search.main() == 0
    assert load_yaml(capsys.readouterr().out)["search"] == search.trials()


def test_the_settings_of_the_study_are_those_of_the_best_trial() -> None:
    committed = ROOT / "reports" / "tables" / "search.csv"
    if not committed.is_file():
        pytest.skip("there is no report of the study yet")
    table = pd.read_csv(committed)
    assert len(table) == len(PARAMS["search"])
    for name, row in table[table["chosen"]].set_index("trial").iterrows():
        same = table[table["method"] == row["method"]]
        assert row["top1_loc_error"] == same["top1_loc_error"].min()
        settings = dict(PARAMS["search"][name])
        method = settings.pop("method")
        assert METHODS[method, "class"] == row["method"]
        assert PARAMS[method] == settings
    for method in ("background_class", "background_norm"):
        main = load_yaml((ROOT / "params.yaml").read_text(encoding="utf-8"))
        assert PARAMS[method] == main["cam"]
