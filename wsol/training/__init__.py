"""Training of the methods; a trained run is a folder with the file `WEIGHTS`."""

from pathlib import Path

WEIGHTS = "weights.safetensors"
FOLDER = Path(__file__).parents[1] / "published"  # runs that come with the package


def run_folder(run: str | Path) -> Path:
    """Return the folder of a run: a path or, where there is no run, a published name."""
    is_name = (FOLDER / run / WEIGHTS).is_file() and not (Path(run) / WEIGHTS).is_file()
    return FOLDER / run if is_name else Path(run)
