"""Files that hold a digest of themselves, which is checked before they are read.

Parquet's own checksums cover pages, but neither page headers nor the footer, and readers such as polars check none; so
the digest covers the whole file. It stands in the footer's metadata, and is taken with its own place blank. That of a
JSON document covers all its other keys. Files of earlier versions have no digest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from dln.base.files import placing
from dln.errors import DamagedError, StorageError

KEY, ALGORITHM = "dln.digest", "sha256:"  # processors have instructions for it: twice as fast as blake2b
BLANK = "0" * 32

METADATA = {KEY: ALGORITHM + BLANK}
"""What a Parquet file has in its footer until it is sealed."""

_MARK = f"{KEY}\x18{chr(len(ALGORITHM + BLANK))}{ALGORITHM}".encode()  # Thrift's compact protocol: field, length, bytes
_MAGIC = b"PAR1"
_CHUNK = 2**20


def seal(path: Path) -> None:
    """Write the digest of a Parquet file that has `METADATA` in its footer into its place."""
    with open(path, "r+b") as file:
        place, _ = _digest_place(file)
        assert place, f"no place for a digest in {path}"
        digest = _digest_around(file, place)
        file.seek(place)
        file.write(digest)


def check(path: Path) -> bool:
    """Check the digest of a Parquet file; return False if it has none, being of an earlier version.

    Raises:
        DamagedError: It is not what was written, or no Parquet file.
        StorageError: It cannot be read.
    """
    with reading(path), _opened(path) as file:
        try:
            place, claimed = _digest_place(file)
        except ValueError as error:
            raise DamagedError(path, str(error)) from None
        if place and _digest_around(file, place) != claimed:
            raise DamagedError(path)
        return bool(place)


def _digest_place(file: IO[bytes]) -> tuple[int, bytes]:
    """Return where the digest begins, and what stands there; of a file that has none, 0 and nothing.

    Raises:
        ValueError: The footer is no Parquet footer, or not as it was written.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    start = size - 8 - int.from_bytes(tail[:4], "little")
    if size < 12 or tail[4:] != _MAGIC or start < len(_MAGIC):
        raise ValueError("it is no whole Parquet file")
    file.seek(start)
    footer = file.read(size - 8 - start)
    at = footer.rfind(_MARK)
    if at >= 0:
        at += len(_MARK)
        return start + at, footer[at : at + len(BLANK)]
    if KEY.encode() in footer or ALGORITHM.encode() in footer:
        raise ValueError("its digest cannot be found")
    return 0, b""


def _digest_around(file: IO[bytes], place: int) -> bytes:
    """Return the digest of a file, taken with the place of the digest blank."""
    digest, left = hashlib.sha256(), place
    file.seek(0)
    while left:
        chunk = file.read(min(left, _CHUNK))
        digest.update(chunk)
        left -= len(chunk)
    digest.update(BLANK.encode())
    file.seek(place + len(BLANK))
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()[: len(BLANK)].encode()


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Put a JSON document into place, with its digest."""
    plain = json.loads(json.dumps(document))
    with placing(path) as beside:
        beside.write_text(json.dumps({**plain, "digest": _document_digest(plain)}, indent=2) + "\n", encoding="utf-8")


def read_document(path: Path) -> dict[str, Any] | None:
    """Return a JSON document, None if there is none; those of earlier versions have no digest.

    Raises:
        DamagedError: It is not what was written.
        StorageError: It cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_document(Path(folder) / "note.json", {"kind": "note"})
    ...     read_document(Path(folder) / "note.json")
    {'kind': 'note'}
    """
    try:
        document = json.loads(content(path).decode())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedError(path, "it is empty" if not path.stat().st_size else f"no JSON: {error}") from None
    if not isinstance(document, dict):
        raise DamagedError(path, "it is no JSON object")
    claimed = document.pop("digest", None)
    if claimed is not None and claimed != _document_digest(document):
        raise DamagedError(path)
    return document


def _document_digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[: len(BLANK)]


def content(path: Path) -> bytes:
    """Return what a file holds.

    Raises:
        FileNotFoundError: There is none.
        DamagedError: The disk cannot give it back, or it is no file.
        StorageError: It may not be read.
    """
    with reading(path), _opened(path) as file:
        return file.read()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file in an OSError of the block, and say whether it is damaged; FileNotFoundError is left as it is.

    Raises:
        DamagedError: The disk cannot give back what a file holds, or it is no file.
        StorageError: It may not be read, or not now.
    """
    try:
        yield
    except (StorageError, FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        if error.errno in (None, errno.EIO, errno.EISDIR):
            raise DamagedError(path, error.strerror or str(error)) from error
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def _opened(path: Path) -> IO[bytes]:
    """Open what must be a file: nobody may ever write to a pipe."""
    if path.is_symlink() and not path.exists():
        raise DamagedError(path, "it points to nothing")
    if not stat.S_ISREG(path.stat().st_mode):
        raise DamagedError(path, "it is no file")
    return open(path, "rb")
