"""What a run was made with: package versions, platform, git commit."""

import hashlib
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from wsol.paths import project_root

_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "pandas", "pillow", "scipy")


def provenance() -> dict[str, object]:
    """Return package versions, Python, platform and git commit ("unknown" outside a clone)."""
    return {
        "packages": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.system() + "-" + platform.machine(),
        "git_commit": git_commit(),
    }


def code_digest(*modules: str) -> str:
    """Return a digest of modules of wsol, given as files without suffix, and of all methods.

    What was begun with other code is not gone on with.
    """
    folder = Path(__file__).parent
    files = [folder / f"{module}.py" for module in modules] + sorted(folder.glob("methods/*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def git_commit() -> str:
    """Return the commit of the project, with "+" when tracked files differ from it."""
    git = ["git", "-C", str(project_root())]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")
