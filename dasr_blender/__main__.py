# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m dasr_blender …` and the console script: the same commands as `dasr …`."""

from __future__ import annotations

import sys


def console() -> None:
    """Run one command. Ctrl-C while it is being loaded ends it as Ctrl-C does later."""
    try:
        from .cli import console as run

        run()
    except KeyboardInterrupt:
        print("dasr: Cancelled", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    console()
