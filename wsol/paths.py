"""Where the project lies, whatever the working directory is."""

from pathlib import Path

MARKERS = ("dvc.yaml", "pyproject.toml")


def project_root(start: Path | None = None) -> Path:
    """Return the nearest folder at or above `start` that holds dvc.yaml or pyproject.toml.

    JupyterLab, nbval and papermill start a notebook in its own folder, DVC and a script in the
    root: everything that names a file goes through here.

    Parameters
    ----------
    start
        Folder to begin at; the working directory by default. When nothing is found above it,
        the checkout that wsol itself was imported from is tried.

    Raises
    ------
    FileNotFoundError
        If neither place belongs to a project.
    """
    start = Path.cwd() if start is None else Path(start).resolve()
    package = Path(__file__).resolve().parent
    for folder in (start, *start.parents, package.parent):
        if any((folder / marker).is_file() for marker in MARKERS):
            return folder
    raise FileNotFoundError(
        f"{start} is in no project: no folder above it holds {' or '.join(MARKERS)}. "
        "Start from inside the folder of this repository."
    )
