"""Many files by name: in a folder, a zip or a tar. Nothing is ever unpacked to disk.

Names are relative, with ``/`` between their parts. Hidden files, and those that macOS adds to
archives, are not there.
"""

import bz2
import contextlib
import gzip
import lzma
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
IMAGES = (
    *(".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".ico", ".j2c", ".j2k", ".jfif", ".jp2"),
    *(".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm"),
    *(".ppm", ".tif", ".tiff", ".webp"),
)

# One file, and all of a compressed tar, which has to be read as a whole.
_LARGEST_FILE = 1 << 30
_LARGEST_TAR = 4 << 30
_ZIP_HEADER = 30
_BLOCK = 1 << 20
_METHODS = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma"}  # of zips, that are not read
# What the readers of the standard library happen to raise on an archive that is damaged, or none:
# each of their layers, down to the numbers that a header makes impossible.
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError),
    *(OSError, ValueError, RuntimeError, NotImplementedError, LookupError, struct.error),
    *(OverflowError, MemoryError),
)


class Files(NamedTuple):
    """Files that can be read by name, from several threads at once.

    Attributes:
      path: where they are.
      sizes: bytes of each file by its name, in the order of names.
      read: the content of a file; raises if it cannot be read. Nothing stays open.
      folders: names of the folders that are there by themselves, perhaps without files.
    """

    path: Path
    sizes: dict[str, int]
    read: Callable[[str], bytes]
    folders: frozenset[str] = frozenset()


def open_files(path: Path) -> Files:
    """The files in a folder or an archive.

    Links to folders are followed, except to one that they are in. In a tar the last file of a name
    counts, which is how tars are updated; a zip holds each name once.

    Raises:
      ValueError: if it does not exist, cannot be read, is no archive, holds a name that points out
        of it or, in a zip, is there twice, or a folder that a link shows a second time.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise ValueError(f"there is no file or folder {path}")
    try:
        files = _zip(path) if is_zip(path) else _tar(path)
    except _DAMAGED as error:
        raise ValueError(f"{path} cannot be read as a zip or tar: {error}") from error
    for name in files.sizes:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or re.match("[A-Za-z]:", name):
            raise ValueError(f"{path} is refused: the name {name!r} in it points out of it")
    shown = frozenset(folder for folder in files.folders if folder and not is_hidden(folder))
    return files._replace(sizes=_visible(files.sizes), folders=shown)


def is_image(name: str) -> bool:
    """Whether a file is called as images are.

    Example:
      >>> is_image("photos/Cat.JPG"), is_image("labels.csv")
      (True, False)
    """
    return PurePosixPath(name).suffix.lower() in IMAGES


def is_archive(path: str | Path) -> bool:
    """Whether a path ends as archives do."""
    return str(path).lower().endswith(ARCHIVES)


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip does.

    `zipfile.is_zipfile` looks at the end, where a tar may hold a zip as its last file.
    """
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")  # the second one is empty


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: hidden, or left by macOS."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def listed_files(root: Path, names: Sequence[str]) -> Files:
    """Files of a folder by their names; of those that are there, the others are left out."""
    sizes = {name: (root / name).stat().st_size for name in names if (root / name).exists()}
    return Files(root, sizes, lambda name: read_plain(root / name))


def read_plain(path: Path) -> bytes:
    """The content of a file; of anything else, such as a pipe, reading might never end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError("it is no plain file")
    return path.read_bytes()


def _visible(sizes: dict[str, int]) -> dict[str, int]:
    return {name: sizes[name] for name in sorted(sizes) if name and not is_hidden(name)}


def _folder(root: Path) -> Files:
    def failed(error: OSError) -> None:
        raise ValueError(f"folder {error.filename} cannot be read: {error.strerror}") from error

    sizes: dict[str, int] = {}
    first: dict[Path, Path] = {}  # by where a folder really is, as what it was met first
    for folder, inside, names in os.walk(root, onerror=failed, followlinks=True):
        inside[:] = sorted(name for name in inside if not is_hidden(name))
        above = [parent.resolve() for parent in (Path(folder), *Path(folder).parents)]
        if above[0] in above[1:]:  # a link to a folder that it is in
            inside.clear()
            continue
        below = Path(folder).relative_to(root)
        # Folders linked to each other would be met in every order that there is.
        if first.setdefault(above[0], below) != below:
            raise ValueError(
                f"folders {root / first[above[0]]} and {folder} are the same one, by a link, and "
                "its files would count twice; remove the link"
            )
        for name in names:
            path = Path(folder) / name
            # A broken link is a file all the same, and one that cannot be read.
            sizes[(below / name).as_posix()] = path.stat().st_size if path.exists() else 0
    folders = frozenset(below.as_posix() for below in first.values() if below.parts)
    return Files(root, _visible(sizes), lambda name: read_plain(root / name), folders)


def _zip(path: Path) -> Files:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    # Some programs write the separators of Windows; beside a slash they are part of a name.
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
            raise ValueError(f"the name {name!r} is in it twice")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            method = _METHODS.get(info.compress_type, f"method {info.compress_type}")
            raise ValueError(f"{name!r} in it is compressed by {method}; pack it by deflate")
        members[name] = info
    sizes = {name: info.file_size for name, info in members.items()}
    return Files(path, sizes, lambda name: _read_member(path, members[name]), frozenset(folders))


def _read_member(path: Path, info: zipfile.ZipInfo) -> bytes:
    """A file of a zip, which is opened anew: threads share no place in it, and nothing stays open.

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
        # No more than it says it is, whatever it would become.
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
        with path.open("rb") as file:  # anew, so that threads do not move each other's place
            file.seek(member.offset_data)
            content = file.read(member.size)
        if len(content) < member.size:
            raise ValueError("the archive ends in the middle of it")
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
                    f"it holds more than {_LARGEST_TAR >> 30} GiB, and a compressed tar has to be "
                    "read as a whole; unpack it, or make a tar that is not compressed of it"
                )
            content = archive.extractfile(member)
            contents[name] = content.read() if content else b""
        _check_end(archive)
        while plain.read(_BLOCK):  # to the end of the file, where the checksum is
            pass

    def read(name: str) -> bytes:
        content = contents[name]
        if isinstance(content, tarfile.TarInfo):
            _check_plain(content)
            raise ValueError("it is no plain file")
        return content

    sizes = {
        name: len(content) if isinstance(content, bytes) else 0
        for name, content in contents.items()
    }
    return Files(path, sizes, read, frozenset(folders))


def _check_end(archive: tarfile.TarFile) -> None:
    """`tarfile` takes a damaged header in the middle for the end, and says nothing."""
    file: Any = archive.fileobj
    file.seek(archive.offset)
    mark = file.read(tarfile.BLOCKSIZE)
    if mark.strip(b"\0") or len(mark) < tarfile.BLOCKSIZE:
        raise ValueError("it is truncated or damaged: its end mark is missing")


def _check_plain(member: tarfile.TarInfo) -> None:
    if member.issym() or member.islnk():
        raise ValueError("it is a link, and links in archives are not followed")
    if not member.isreg() or member.sparse is not None:
        raise ValueError("it is no plain file")
    _check_size(member.size)


def _check_size(size: int) -> None:
    if size > _LARGEST_FILE:
        raise ValueError(f"it has {size} bytes, and {_LARGEST_FILE} are the most")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends without error.

    Readers see the old content or the new one, never a part of it.

    Example:
      >>> import tempfile
      >>> folder = Path(tempfile.mkdtemp())
      >>> with atomic_write(folder / "notes.txt") as temporary:
      ...     _ = temporary.write_text("done")
      >>> [path.name for path in folder.iterdir()]
      ['notes.txt']
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
