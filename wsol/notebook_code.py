"""The code of the notebooks, as files that DVC stages depend on.

    python -m wsol.notebook_code notebooks build/notebooks

Opening, running and saving a notebook changes its bytes, and so does editing its prose. What a
stage computes follows from its code cells alone.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path


def notebook_code(notebook: Path) -> str:
    """Return the code cells of a notebook with their tags, and nothing else.

    Tags for the test runner (`nbval-...`) are left out, because they change no result.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    blocks = [_block(cell) for cell in cells if cell["cell_type"] == "code"]
    return "\n".join(block for block in blocks if block)


def _block(cell: dict) -> str:
    source = "".join(cell["source"]).replace("\r\n", "\n").strip()
    tags = [t for t in cell["metadata"].get("tags", []) if not t.startswith("nbval-")]
    header = " ".join(["# %%", *(f"[{tag}]" for tag in sorted(tags))])
    lines = [line.rstrip() for line in source.split("\n")]
    return "\n".join([header, *lines, ""]) if source else ""


def write_all(notebooks: Path, out: Path) -> list[Path]:
    """Write `out`/NAME.py for each `notebooks`/NAME.ipynb; return the files that changed.

    A file whose text stays the same is not touched, and one whose notebook is gone is removed.
    """
    out.mkdir(parents=True, exist_ok=True)
    sources = sorted(notebooks.glob("*.ipynb"))
    for orphan in {p.stem for p in out.glob("*.py")} - {p.stem for p in sources}:
        (out / f"{orphan}.py").unlink()
    changed = []
    for source in sources:
        target, code = out / f"{source.stem}.py", notebook_code(source)
        if not target.is_file() or target.read_text(encoding="utf-8") != code:
            target.write_text(code, encoding="utf-8", newline="\n")
            changed.append(target)
    return changed


def main(words: Sequence[str] | None = None) -> int:
    """Write the code files and name those that changed."""
    parser = argparse.ArgumentParser(prog="wsol.notebook_code", description="Code of notebooks.")
    parser.add_argument("notebooks", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args(words)
    for path in write_all(arguments.notebooks, arguments.out):
        print(f"{path.as_posix()}: code written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
