# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m dasr_blender …`: the same commands as `dasr …`."""

from __future__ import annotations

from .cli import console

if __name__ == "__main__":
    console()
