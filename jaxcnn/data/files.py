"""Access by name to files in a folder, zip or tar; archives are never unpacked to disk.

Names are relative, with ``/`` as the separator. Hidden files and files that macOS adds to archives
are excluded.
"""

import bz2
import contextlib
import gzip
import json
import lzma
import math
import os
import re
import secrets
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
IMAGES = (
    ".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".ico", ".j2c", ".j2k", ".jfif", ".jp2",
    ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm",
    ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip

_UNFINISHED: set[Path] = set()  # temporary files of atomic_write

# Limits in bytes; a compressed tar must be read as a whole.
_LARGEST_FILE = 1 << 30
_LARGEST_TAR = 4 << 30
_ZIP_HEADER = 30
_BLOCK = 1 << 20
_METHODS = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma"}  # not supported in zips
# Exceptions that the standard library raises for damaged archives and for other kinds of files.
_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError,
    RuntimeError, NotImplementedError, LookupError, struct.error, OverflowError, MemoryError,
)  # fmt: skip


class Files(NamedTuple):
    """Files that can be read by name, from several threads at once.

    Attributes:
      path: the folder or archive.
      sizes: size of each file in bytes, keyed and sorted by name.
      read: returns the contents of a file, or raises if it cannot be read; no file is left open.
      folders: names of the folders, including empty ones.
    """

    path: Path
    sizes: dict[str, int]
    read: Callable[[str], bytes]
    folders: frozenset[str] = frozenset()


def open_files(path: Path, *, follow_links: bool = True) -> Files:
    """List the files in a folder or an archive.

    Symbolic links to folders are followed, unless ``follow_links`` is False or they lead to a
    parent folder. If a tar contains the
    same name several times, the last file is used, because tars are updated by appending.

    Raises:
      ValueError: if the path does not exist, cannot be read or is neither a folder nor an archive,
        if a name in an archive points outside the archive, if a zip contains a name twice, or if a
        link makes a folder appear a second time.
    """
    if path.is_dir():
        return _folder(path, follow_links=follow_links)
    if not path.is_file():
        raise ValueError(f"there is no file or folder {path}")
    try:
        files = _zip(path) if is_zip(path) else _tar(path)
    except _DAMAGED as error:
        raise ValueError(f"{path} cannot be read as a zip or tar: {error}") from error
    for name in files.sizes:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or re.match("[A-Za-z]:", name):
            raise ValueError(f"{path} is rejected: the name {name!r} points outside the archive")
    shown = frozenset(folder for folder in files.folders if folder and not is_hidden(folder))
    return files._replace(sizes=_visible(files.sizes), folders=shown)


def is_image(name: str) -> bool:
    """Return True if a file name has an image file extension.

    Args:
      name: file name or path.

    Example:
      >>> is_image("photos/Cat.JPG"), is_image("labels.csv")
      (True, False)
    """
    return PurePosixPath(name).suffix.lower() in IMAGES


def is_archive(path: str | Path) -> bool:
    """Return True if a path has an archive file extension."""
    return str(path).lower().endswith(ARCHIVES)


def is_zip(path: Path) -> bool:
    """Return True if a file starts with a zip signature.

    `zipfile.is_zipfile` checks the end of the file, but the last file in a tar may be a zip.
    """
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")  # the latter is an empty zip


def is_hidden(name: str) -> bool:
    """Return True for hidden files and folders, and for files that macOS adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def listed_files(root: Path, names: Sequence[str]) -> Files:
    """List the named files in a folder, skipping missing ones."""
    sizes = {name: (root / name).stat().st_size for name in names if (root / name).exists()}
    return Files(root, sizes, lambda name: read_plain(root / name))


def read_plain(path: Path) -> bytes:
    """Return the contents of a regular file; reading a pipe, for example, might never finish."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError("it is not a regular file")
    return path.read_bytes()


def _visible(sizes: dict[str, int]) -> dict[str, int]:
    return {name: sizes[name] for name in sorted(sizes) if name and not is_hidden(name)}


def _folder(root: Path, *, follow_links: bool) -> Files:
    def failed(error: OSError) -> None:
        raise ValueError(f"folder {error.filename} cannot be read: {error.strerror}") from error

    sizes: dict[str, int] = {}
    first: dict[Path, Path] = {}  # maps a folder's resolved path to its first name
    for folder, inside, names in os.walk(root, onerror=failed, followlinks=follow_links):
        inside[:] = sorted(name for name in inside if not is_hidden(name))
        above = [parent.resolve() for parent in (Path(folder), *Path(folder).parents)]
        if above[0] in above[1:]:  # a link to a parent folder
            inside.clear()
            continue
        below = Path(folder).relative_to(root)
        # Folders that link to each other would be walked in every possible order.
        if first.setdefault(above[0], below) != below:
            raise ValueError(
                f"folders {root / first[above[0]]} and {folder} are the same folder because of a "
                "link, so its files would be counted twice; remove the link"
            )
        for name in names:
            path = Path(folder) / name
            # A broken link is listed as a file, which is reported as unreadable when it is read.
            sizes[(below / name).as_posix()] = path.stat().st_size if path.exists() else 0
    folders = frozenset(below.as_posix() for below in first.values() if below.parts)
    return Files(root, _visible(sizes), lambda name: read_plain(root / name), folders)


def _zip(path: Path) -> Files:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    # Some programs write backslashes as separators; if any name contains a slash, backslashes are
    # part of the names.
    is_foreign = not any("/" in info.filename for info in infos)
    members: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    for info in infos:
        name = info.filename.replace("\\", "/") if is_foreign else info.filename
        name = name.removeprefix("./")
        if not name or name.endswith("/"):
            folders.add(name.rstrip("/"))
            continue
        if name in members:
            raise ValueError(f"it contains the name {name!r} twice")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            method = _METHODS.get(info.compress_type, f"method {info.compress_type}")
            raise ValueError(f"its file {name!r} is compressed with {method}; use deflate")
        members[name] = info
    sizes = {name: info.file_size for name, info in members.items()}
    return Files(path, sizes, lambda name: _read_member(path, members[name]), frozenset(folders))


def _read_member(path: Path, info: zipfile.ZipInfo) -> bytes:
    """Read a file from a zip.

    The archive is reopened, so that threads do not share a file position and no file is left open;
    `zipfile` would read the whole directory each time.
    """
    if info.external_attr >> 16 & 0o170000 == 0o120000:
        raise ValueError("it is a link, and links in archives are not followed")
    _check_size(info.file_size)
    if info.flag_bits & 1:
        raise ValueError("it is encrypted")
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(_ZIP_HEADER)
        if header[:4] != b"PK\x03\x04" or len(header) < _ZIP_HEADER:
            raise ValueError("the archive is damaged")
        file.seek(sum(struct.unpack_from("<HH", header, 26)), 1)
        content = file.read(info.compress_size)
    if info.compress_type == zipfile.ZIP_DEFLATED:
        # Stop just past the declared size, however large the decompressed data would be.
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, info.file_size + 1)
    if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
        raise ValueError("its checksum in the archive is wrong")
    return content


def _tar(path: Path) -> Files:
    with path.open("rb") as file:
        start = file.read(6)
    for magic, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open)):
        if start.startswith(magic):
            return _compressed_tar(path, opener)
    members, folders = {}, set()
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isdir():
                folders.add(name)
            else:
                members[name] = member
        _check_end(archive)

    def read(name: str) -> bytes:
        member = members[name]
        _check_plain(member)
        with path.open("rb") as file:  # reopened, so that threads do not share a file position
            file.seek(member.offset_data)
            content = file.read(member.size)
        if len(content) < member.size:
            raise ValueError("the archive ends in the middle of this file")
        return content

    sizes = {name: member.size for name, member in members.items()}
    return Files(path, sizes, read, frozenset(folders))


def _compressed_tar(path: Path, opener: Callable[..., Any]) -> Files:
    contents: dict[str, bytes | tarfile.TarInfo] = {}
    folders = set()
    total = 0
    with opener(path) as plain, tarfile.open(fileobj=plain, mode="r:") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isdir():
                folders.add(name)
                continue
            if not member.isreg() or member.sparse is not None:
                contents[name] = member
                continue
            total += member.size
            if total > _LARGEST_TAR:
                raise ValueError(
                    f"it contains more than {_LARGEST_TAR >> 30} GiB, and a compressed tar must be "
                    "read as a whole; unpack it, or create an uncompressed tar"
                )
            content = archive.extractfile(member)
            contents[name] = content.read() if content else b""
        _check_end(archive)
        while plain.read(_BLOCK):  # read to the end of the file, where the checksum is
            pass

    def read(name: str) -> bytes:
        content = contents[name]
        if isinstance(content, tarfile.TarInfo):
            _check_plain(content)
            raise ValueError("it is not a regular file")
        return content

    sizes = {
        name: len(content) if isinstance(content, bytes) else 0
        for name, content in contents.items()
    }
    return Files(path, sizes, read, frozenset(folders))


def _check_end(archive: tarfile.TarFile) -> None:
    """Check that the end marker follows; `tarfile` silently treats a damaged header as the end."""
    file: Any = archive.fileobj
    file.seek(archive.offset)
    mark = file.read(tarfile.BLOCKSIZE)
    if mark.strip(b"\0") or len(mark) < tarfile.BLOCKSIZE:
        raise ValueError("it is truncated or damaged: its end marker is missing")


def _check_plain(member: tarfile.TarInfo) -> None:
    if member.issym() or member.islnk():
        raise ValueError("it is a link, and links in archives are not followed")
    if not member.isreg() or member.sparse is not None:
        raise ValueError("it is not a regular file")
    _check_size(member.size)


def _check_size(size: int) -> None:
    if size > _LARGEST_FILE:
        raise ValueError(f"it must have at most {_LARGEST_FILE} bytes, got {size}")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``, which replaces ``path`` if the block succeeds.

    Readers see either the old contents or the new contents, never partial contents. A link at
    ``path`` is replaced, not followed.

    Example:
      >>> import tempfile
      >>> folder = Path(tempfile.mkdtemp())
      >>> with atomic_write(folder / "notes.txt") as temporary:
      ...     _ = temporary.write_text("done")
      >>> [path.name for path in folder.iterdir()]
      ['notes.txt']
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    _UNFINISHED.add(temporary)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        _UNFINISHED.discard(temporary)


def remove_unfinished() -> None:
    """Remove the temporary files of `atomic_write`, before a signal ends the process."""
    for temporary in list(_UNFINISHED):
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Serialize a value as JSON; numbers that are not finite, which JSON lacks, become null.

    Example:
      >>> json_text({"loss": float("inf"), "accuracy": 0.5})
      '{"loss": null, "accuracy": 0.5}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
