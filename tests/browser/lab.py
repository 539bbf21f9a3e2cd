"""JupyterLab as `make lab` starts it, and a browser that works in it as a reader would."""

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
from playwright.sync_api import Page, Playwright, Response

ROOT = Path(__file__).parents[2]
OUT = ROOT / "runs" / "browser"  # images, and the copies of the notebooks that are run
NAMES = ("chromium", "chromium-browser", "google-chrome")
NO_CHROMIUM = (
    "no Chromium was found, so the browser tests are left out; install one "
    "(apt install chromium) or run: python -m playwright install chromium"
)

# Without the news question, which would lie over the notebook. Without windowing, every cell is
# in the page, not only those in view. Without autosave, a copy is written when a test says so.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},
    "docmanager-extension/plugin": {"autosave": False},
}

PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
CELLS = f"{PANEL} .jp-Notebook .jp-Cell"
PROMPTS = f"{PANEL} .jp-CodeCell .jp-InputPrompt"
RED = f'{PANEL} [data-mime-type="application/vnd.jupyter.stderr"]'  # exceptions too
TALLEST = 16000  # px; Chromium draws no taller image
PATIENCE = 240  # s for a notebook, which takes seconds on an idle machine


def find_chromium(playwright: Playwright) -> str | None:
    """Return the path of a Chromium: the system's, else Playwright's own, else None."""
    for path in map(shutil.which, NAMES):
        if path:
            return path
    own = playwright.chromium.executable_path
    return own if Path(own).is_file() else None


def chromium_flags() -> list[str]:
    """Return what Chromium wants where only containers have it: it has no sandbox for root."""
    return ["--no-sandbox", "--disable-dev-shm-usage"] if os.geteuid() == 0 else []


def lab_flags() -> list[str]:
    """Return the flags of `make lab`, as they stand in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    (words,) = re.findall(r"python -m jupyterlab (.+) \$\(LAB_ARGS\)", makefile)
    return shlex.split(words.replace("$$PWD", str(ROOT)))


def wait_until(holds: Callable[[], object], what: str, seconds: float, every: float = 0.3) -> None:
    """Ask again and again until it holds. Raises TimeoutError that says what was waited for."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds:.0f} s still not so: {what}")
        time.sleep(every)


@dataclass(frozen=True)
class Lab:
    """A running server."""

    port: int
    token: str

    def url(self, path: str) -> str:
        """Return the address of a file of the project, in an empty workspace."""
        return f"http://127.0.0.1:{self.port}/lab/tree/{path}?token={self.token}&reset"

    def ask(self, path: str, method: str = "GET") -> list[dict]:
        """Ask the server's API. Raises OSError while it is not up."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{path}",
            method=method,
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "[]")

    def is_up(self) -> bool:
        """Whether the server answers."""
        try:
            self.ask("sessions")
        except OSError:
            return False
        return True

    def is_idle(self, path: str) -> bool:
        """Whether the kernel of a notebook is connected to the page and has nothing to do."""
        kernels = [s["kernel"] for s in self.ask("sessions") if s["path"] == path]
        return any(k["execution_state"] == "idle" and k["connections"] > 0 for k in kernels)

    def close_sessions(self) -> None:
        """End all kernels, so that no two notebooks need memory at once."""
        for session in self.ask("sessions"):
            self.ask(f"sessions/{session['id']}", "DELETE")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(folder: Path) -> dict[str, str]:
    """Return the variables of `make`, with this user's Jupyter settings and history put aside."""
    for plugin, values in SETTINGS.items():
        file = folder / f"lab/user-settings/@jupyterlab/{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    return os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_CONFIG_DIR": str(folder),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
    }


@contextmanager
def running_lab() -> Iterator[Lab]:
    """Start JupyterLab on a free port of this machine, and end it and its kernels in any case."""
    lab = Lab(_free_port(), secrets.token_hex(16))
    command = [sys.executable, "-m", "jupyterlab", *lab_flags(), "--no-browser"]
    command += [f"--ServerApp.port={lab.port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={lab.token}"]
    command += ["--allow-root"] if os.geteuid() == 0 else []
    OUT.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else nothing would end the server
    with tempfile.TemporaryDirectory() as folder, (OUT / "jupyterlab.log").open("w") as log:
        server = subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(Path(folder)),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until(lambda: server.poll() is not None or lab.is_up(), "JupyterLab is up", 90)
            if server.poll() is not None:
                raise RuntimeError(f"JupyterLab did not start, see {log.name}")
            yield lab
        finally:
            _end(server)


def _end(server: subprocess.Popen) -> None:
    """Let the server end its kernels, and kill it if it does not."""
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


class OpenNotebook:
    """A copy of a notebook, open in JupyterLab.

    The copy lies in the project, where its kernel finds the root as that of the original does.
    """

    def __init__(self, lab: Lab, page: Page, notebook: Path) -> None:
        self.lab, self.page = lab, page
        self.copy = OUT / "notebooks" / notebook.name
        self.copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(notebook, self.copy)
        self.path = self.copy.relative_to(ROOT).as_posix()
        cells = self.read().cells
        self.n_cells = len(cells)
        self.is_code = [bool(c.source.strip()) for c in cells if c.cell_type == "code"]
        page.goto(lab.url(self.path))
        wait_until(lambda: lab.is_idle(self.path), "the kernel is connected and idle", 90)
        wait_until(lambda: page.locator(CELLS).count() == self.n_cells, "all cells are there", 60)

    def read(self) -> nbformat.NotebookNode:
        """Read the copy from the disk."""
        return nbformat.read(self.copy, as_version=4)

    def command(self, menu: str, command: str) -> None:
        """Choose an entry of a menu."""
        bar = self.page.locator("#jp-menu-panel .lm-MenuBar-itemLabel")
        bar.get_by_text(menu, exact=True).click()
        self.page.locator(f'.lm-Menu-item[data-command="{command}"]').click()

    def prompts(self) -> list[str]:
        """Return the prompts of the code cells, as '[3]:'."""
        return self.page.locator(PROMPTS).all_inner_texts()

    def errors(self) -> list[str]:
        """Return the tracebacks in the page."""
        return self.page.locator(RED, has_text="Traceback").all_inner_texts()

    def run_all(self) -> None:
        """Run all cells and wait for the last; an exception ends the wait as well.

        JupyterLab drops "Run All Cells" without a word when it comes too early, so it is chosen
        again if no prompt changes.
        """
        before = self.prompts()
        for _ in range(3):
            self.command("Run", "runmenu:run-all")
            with suppress(TimeoutError):
                wait_until(lambda: self.prompts() != before, "a cell runs", 10)
                break
        wait_until(self.is_done, "every code cell has run and the kernel is idle", PATIENCE)
        wait_until(self._has_images, "all images are loaded", 30)

    def is_done(self) -> bool:
        """Whether every code cell has a number, or one of them an exception."""
        numbered = [bool(re.match(r"\[\d+\]", prompt)) for prompt in self.prompts()]
        ran = all(n for n, code in zip(numbered, self.is_code, strict=True) if code)
        return (ran or bool(self.errors())) and self.lab.is_idle(self.path)

    def _has_images(self) -> bool:
        return self.page.evaluate("Array.from(document.images).every(i => i.complete)")

    def save(self) -> nbformat.NotebookNode:
        """Save the copy through the menu, and read what was saved."""
        with self.page.expect_response(_is_save) as answer:
            self.command("File", "docmanager:save")
        assert answer.value.ok
        return self.read()

    def screenshot(self, file: Path) -> None:
        """Take an image of the notebook from its first to its last cell."""
        panel = self.page.locator(PANEL)
        cells = panel.locator(".jp-WindowedPanel-outer").first
        hidden = cells.evaluate("e => e.scrollHeight - e.clientHeight")
        width, height = self.page.evaluate("[innerWidth, innerHeight]")
        self.page.set_viewport_size({"width": width, "height": min(height + hidden, TALLEST)})
        self.page.wait_for_timeout(500)  # the page is laid out anew
        cells.evaluate("e => e.scrollTo(0, 0)")
        self.page.wait_for_timeout(200)
        panel.screenshot(path=file)


def _is_save(answer: Response) -> bool:
    """Whether the server answers that a file is written."""
    return answer.request.method == "PUT" and "/api/contents/" in answer.url


@contextmanager
def opened(lab: Lab, page: Page, notebook: Path) -> Iterator[OpenNotebook]:
    """Open a copy of a notebook in the page, and end its kernel in any case."""
    try:
        yield OpenNotebook(lab, page, notebook)
    finally:
        lab.close_sessions()
