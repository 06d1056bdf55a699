# SPDX-License-Identifier: GPL-3.0-or-later
"""The output folder of a job: checked before the work, written atomically, resumed after a kill.

Every file is written under a temporary name inside `<out>/.dasr/` and moved into place when it is whole, so
that an interrupted run leaves nothing half-written. Finished stages stay in `<out>/.dasr/<stage>-<key>.npz`,
where the key is a hash of everything that the stage was made from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .core.errors import DasrError
from .core.files import ELSEWHERE, is_text, remove_unfinished, write_refusal, written_atomically

HIDDEN = ".dasr"


def fingerprint(*parts: Any) -> str:
    """Hash (16 hex digits) of JSON-able values; equal inputs give equal names of stages."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def remove_temporary(out: Path) -> None:
    """Remove this process's half-written files, and those left long ago, from an output folder."""
    for folder in (out, out / HIDDEN):
        remove_unfinished(folder)


class Workspace:
    """The folder a job writes into.

    Raises DasrError when the folder cannot be made or written, or has less than `needed` bytes free.
    """

    def __init__(self, out: Path, needed: int = 0) -> None:
        self.out = Path(out)
        self.hidden = self.out / HIDDEN
        folders = (self.hidden, self.out, *self.out.absolute().parents)
        self._made = [folder for folder in folders if not os.path.exists(folder)]  # innermost first
        if not is_text(self.out):
            raise DasrError(write_refusal(self.out, "its name is no text in UTF-8"))
        probe = self.hidden / f"probe-{os.getpid()}"
        try:
            with written_atomically(probe) as temporary:
                temporary.write_bytes(b"dasr")
            probe.unlink()
        except OSError as error:
            self.close()
            raise DasrError(write_refusal(self.out, error)) from error
        remove_temporary(self.out)
        try:
            self.require(needed)
        except DasrError:
            self.close()
            raise

    def close(self) -> None:
        """Remove temporary files, and the folders that were made for the job if nothing came of it."""
        remove_temporary(self.out)
        for folder in self._made:
            with suppress(OSError):  # not empty
                folder.rmdir()

    def require(self, needed: int) -> None:
        """Raise DasrError unless `needed` bytes are free."""
        free = shutil.disk_usage(self.out).free
        if free < needed:
            raise DasrError(
                f"{self.out} has {free / 1e6:.0f} MB free and this job needs about "
                f"{needed / 1e6:.0f} MB: free some space or {ELSEWHERE}"
            )

    @contextmanager
    def guarding(self, target: Path) -> Iterator[None]:
        """A full disk or a refused write in the block becomes a DasrError that names `target`."""
        try:
            yield
        except OSError as error:
            raise DasrError(write_refusal(target, error)) from error

    @contextmanager
    def writing(self, target: Path) -> Iterator[Path]:
        """A temporary path beside `target`, moved onto it when the block ends well and left something there."""
        with self.guarding(target), written_atomically(target) as temporary:
            yield temporary
            if not temporary.exists() or temporary.stat().st_size == 0:
                raise DasrError(f"{target} came out empty: is there space left in {self.out}?")

    def stage(self, name: str, key: str) -> Path:
        """Where the stage's result lies if it has been made from the same inputs."""
        return self.hidden / f"{name}-{key}.npz"

    def forget_other(self, name: str, key: str) -> None:
        """Remove results of this stage made from other inputs."""
        for path in self.hidden.glob(f"{name}-*.npz"):
            if path != self.stage(name, key):
                with suppress(OSError):  # another run reads it, which Windows respects
                    path.unlink(missing_ok=True)
