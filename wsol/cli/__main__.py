"""``python -m wsol.cli``, which `torchrun` starts."""

from wsol.cli import main

main(prog_name="wsol")
