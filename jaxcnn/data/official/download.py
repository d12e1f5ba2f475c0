"""Official dataset files: found in a folder or downloaded, then verified."""

import contextlib
import hashlib
import http.client
import struct
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import rich.console
import rich.progress

from jaxcnn.data.files import is_zip

_BLOCK = 1 << 20
_GZIP_HEADER = 10
_METHODS = {"sha256": "SHA-256", "md5": "MD5"}


class OfficialFile(NamedTuple):
    """A file as published by its authors.

    Attributes:
      name: file name.
      url: address; None if the file must be downloaded manually, for example after registration.
      checksum: ``sha256:...`` or ``md5:...``; None if no checksum is published.
      stamp: timestamp in the header of a gzip file. Some distributions (such as Debian) remove the
        name and timestamp from the header; with both restored, their files match the checksum.
    """

    name: str
    url: str | None
    checksum: str | None
    stamp: int | None = None


def obtain(
    alternatives: Sequence[Sequence[OfficialFile]],
    source: Path | None,
    downloads: Path,
    command: str,
) -> dict[str, Path]:
    """Find or download files, verify them, and return their paths by name.

    Args:
      alternatives: sets of files, any one of which is sufficient; downloads use the first set.
      source: folder that contains the files, or None to download them.
      downloads: folder for downloads; complete files are reused and partial downloads resumed.
      command: the user's command, for messages.

    Raises:
      ValueError: if a file is missing, cannot be downloaded, or is not the official file.
    """
    files = alternatives[0]
    if source is None:
        missing = [file.name for file in files if file.url is None]
        if missing:
            raise ValueError(
                f"{', '.join(missing)} cannot be downloaded without "
                f"registration; download manually and run: {command} --from FOLDER"
            )
        names = ", ".join(file.name for file in files)
        by_hand = f"or download {names} by other means and run: {command} --from FOLDER"
        with locked(downloads):
            return {file.name: _downloaded(file, downloads, by_hand) for file in files}
    present = [
        files for files in alternatives if all((source / file.name).is_file() for file in files)
    ]
    if not present:
        names = " or with ".join(", ".join(file.name for file in files) for files in alternatives)
        first = next(source / f.name for f in files if not (source / f.name).is_file())
        raise ValueError(f"--from must be a folder with {names}; {first} does not exist")
    paths = {file.name: source / file.name for file in present[0]}
    for file in present[0]:
        _verify(file, paths[file.name])
    return paths


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on the folder, creating it if needed.

    The lock is released even if the process ends abnormally. On Windows, which has no such locks,
    nothing is locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _verify(file: OfficialFile, path: Path) -> None:
    if file.checksum is None:
        if not (is_zip(path) or tarfile.is_tarfile(path)):
            raise ValueError(
                f"{file.name} in {path.parent} is not the official file: it is not an archive"
            )
        return
    method, _, expected = file.checksum.partition(":")
    found = _digest(method, path)
    if found == expected:
        return
    if file.stamp is not None and _digest(method, path, _header(file)) == expected:
        return
    raise ValueError(
        f"{file.name} in {path.parent} is not the official file: its "
        f"{_METHODS[method]} must be {expected}, got {found}"
    )


def _header(file: OfficialFile) -> bytes:
    """Return the time and name fields of the official file's gzip header."""
    return struct.pack("<I", file.stamp) + file.name.removesuffix(".gz").encode() + b"\0"


def _digest(method: str, path: Path, header: bytes = b"") -> str:
    """Return the checksum of a file, or of a gzip file with its stripped header restored."""
    state = hashlib.new(method, usedforsecurity=False)
    with path.open("rb") as content:
        if header:
            start = content.read(_GZIP_HEADER)
            state.update(start[:3] + b"\x08" + header[:4] + start[8:] + header[4:])
        while block := content.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def _downloaded(file: OfficialFile, folder: Path, by_hand: str) -> Path:
    path = folder / file.name
    if path.is_file():
        _verify(file, path)
        return path
    part = path.with_name(f"{file.name}.part")
    try:
        _fetch(str(file.url), part)
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        raise ValueError(
            f"cannot download {file.url} ({error}); run the command again to resume, {by_hand}"
        ) from error
    try:
        _verify(file, part)
    except ValueError:
        part.unlink()  # nothing to resume from
        raise
    return part.replace(path)


def _fetch(url: str, part: Path) -> None:
    """Download to a file, resuming at the end of any earlier download."""
    done = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # the file is complete
            return
        raise
    with response:
        if done and response.status != 206:  # the server sends the whole file
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        with part.open("ab" if done else "wb") as out, _progress() as progress:
            task = progress.add_task(url.rsplit("/", 1)[-1], total=total, completed=done)
            while block := response.read(_BLOCK):
                out.write(block)
                progress.advance(task, len(block))
        if total is not None and part.stat().st_size != total:
            raise http.client.IncompleteRead(b"", total - part.stat().st_size)


def _progress() -> rich.progress.Progress:
    return rich.progress.Progress(
        "{task.description}",
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(),
        rich.progress.TransferSpeedColumn(),
        rich.progress.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
