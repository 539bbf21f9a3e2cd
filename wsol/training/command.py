"""One training from the folders on disk, as notebooks, the smoke run and the command need it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from wsol.training.config import config_from, defaults_of, execution_from
from wsol.training.distributed import rank
from wsol.training.loop import train_from_disk
from wsol.training.runs import WEIGHTS


def command(words: Sequence[str] | None) -> int:
    """The command line of `wsol.training.loop`."""
    from wsol.notebook import Refusal, check_parameters, read_sections, read_settings

    given = _arguments(words)
    try:
        values = read_sections([given.params_file], given.section) | read_settings(given.set)
        if "method" not in values:
            raise Refusal('which method? give a section that says it, or "--set method=cam"')
        known = defaults_of(values["method"], values.get("combine"))
        check_parameters({n: v for n, v in values.items() if n in known}, known)
        check_parameters(read_settings(given.set), known)  # a section may serve others too
        config, execution = config_from(values), execution_from(values)
        train_from_disk(config, given.data, given.out, given.n_background, given.resume, execution)
    except (Refusal, ValueError, OSError, RuntimeError, ImportError, ArithmeticError) as error:
        print(f"wsol.training.loop: {error}", file=sys.stderr)
        return 2
    if rank() == 0:
        print(given.out / WEIGHTS)
    return 0


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="wsol.training.loop", description="Train one network.")
    parser.add_argument("--data", type=Path, required=True, help="folder of index.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", type=Path, help="folder for states to go on from")
    parser.add_argument("--n-background", type=int, help="background images; all by default")
    parser.add_argument("--params-file", type=Path, default=Path("params.yaml"))
    parser.add_argument("--section", action="append", default=[], help="section of that file")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(command(None))
