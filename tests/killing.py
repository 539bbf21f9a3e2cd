"""Killing a process of its own in the middle of its work, for tests of what it leaves behind."""

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def kill_while(command: list[str], ready: Callable[[], bool], seed: int) -> None:
    """Start a process, wait until `ready()`, and kill it at a random moment soon after."""
    child = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    try:
        while not ready():
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.0005)
        time.sleep(random.Random(seed).uniform(0, 0.02))
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.returncode == -signal.SIGKILL
