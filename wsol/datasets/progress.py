"""Progress: a bar where somebody watches it, lines in a log file."""

import os
import sys
from typing import Any

from tqdm.auto import tqdm


class ProgressBar(tqdm):
    """tqdm that draws nothing into a log file. `TQDM_DISABLE` is obeyed.

    show : False hides everything, as a second process does
    """

    def __init__(self, *args: Any, show: bool = True, **options: Any) -> None:
        watched = sys.stderr.isatty() or "ipykernel" in sys.modules
        # tqdm's notebook bar does not read the variable itself.
        show = show and os.environ.get("TQDM_DISABLE", "0") in ("", "0")
        self.logs = show and not watched
        if not (show and watched):
            options["disable"] = True
        self.label = options.get("desc", "")
        super().__init__(*args, **options)

    def report(self, text: str) -> None:
        """Show a text beside the bar, or in a log file as one line."""
        if self.logs:
            print(self.label, text, file=sys.stderr, flush=True)
        self.set_postfix_str(text)
