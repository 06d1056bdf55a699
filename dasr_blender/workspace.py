# SPDX-License-Identifier: GPL-3.0-or-later
"""The output folder of a job: checked before the work, written atomically, resumed after a kill.

Every file is written under a temporary name inside `<out>/.dasr/` and moved into place when it is whole, so
that an interrupted run leaves nothing half-written. Finished stages stay in `<out>/.dasr/<stage>-<key>.npz`,
where the key is a hash of everything that the stage was made from.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .core.errors import DasrError
from .core.files import written_atomically

HIDDEN = ".dasr"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} if hasattr(errno, "EDQUOT") else {errno.ENOSPC, errno.EFBIG}


def fingerprint(*parts: Any) -> str:
    """Hash (16 hex digits) of JSON-able values; equal inputs give equal names of stages."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def remove_temporary(out: Path) -> None:
    """Remove half-written files (`written_atomically`'s) from an output folder."""
    for folder in (out, out / HIDDEN):
        for stale in folder.glob(".*.part*"):
            stale.unlink(missing_ok=True)


class Workspace:
    """The folder a job writes into.

    Raises DasrError when the folder cannot be made or written, or has less than `needed` bytes free.
    """

    def __init__(self, out: Path, needed: int = 0) -> None:
        self.out = Path(out)
        self.hidden = self.out / HIDDEN
        self._is_new = not self.out.exists()
        probe = self.hidden / f"probe-{os.getpid()}"
        try:
            self.hidden.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"dasr")
            probe.unlink()
        except OSError as error:
            raise self._sentence(error, self.out) from error
        remove_temporary(self.out)
        try:
            self.require(needed)
        except DasrError:
            self.close()
            raise

    def close(self) -> None:
        """Remove temporary files, and the folders if nothing came of the job."""
        remove_temporary(self.out)
        with suppress(OSError):  # not empty
            self.hidden.rmdir()
            if self._is_new:
                self.out.rmdir()

    def require(self, needed: int) -> None:
        """Raise DasrError unless `needed` bytes are free."""
        free = shutil.disk_usage(self.out).free
        if free < needed:
            raise DasrError(
                f"{self.out} has {free / 1e6:.0f} MB free and this job needs about "
                f"{needed / 1e6:.0f} MB: free some space or choose another folder with --out"
            )

    @contextmanager
    def guarding(self, target: Path) -> Iterator[None]:
        """A full disk or a refused write in the block becomes a DasrError that names `target`."""
        try:
            yield
        except OSError as error:
            raise self._sentence(error, target) from error

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
                path.unlink(missing_ok=True)

    def _sentence(self, error: OSError, target: Path) -> DasrError:
        if error.errno in _FULL:
            return DasrError(
                f"No space left while writing {target}: free some space or choose another folder "
                "with --out (finished stages are kept, a second run goes on from them)"
            )
        reason = error.strerror or str(error)
        return DasrError(f"Cannot write {target}: {reason}; choose another folder with --out")
