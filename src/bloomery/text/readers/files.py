"""`Files`: documents from a file, a folder, a glob or a bucket."""

from __future__ import annotations

import codecs
import contextlib
import difflib
import fnmatch
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO, Literal, NamedTuple

import fsspec
import pyarrow as pa
from annotated_types import Le
from fsspec.implementations.local import LocalFileSystem

from bloomery.core.errors import ConfigError, DataError
from bloomery.core.units import Bytes
from bloomery.store.files import sha256_of
from bloomery.text.readers.formats import DUMP, Format
from bloomery.text.readers.reader import Damage, OnDamage, Reader, warn
from bloomery.text.readers.rows import Rows
from bloomery.text.readers.streams import bare
from bloomery.text.readers.web import PAGES
from bloomery.text.tokenizer import without_surrogates

SUFFIXES = (
    ".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".html", ".htm", ".xhtml", ".xml", ".csv", ".tsv", ".log", ".en", ".de", ".fr",
    ".warc", ".wet", ".arc", ".epub",
    ".jsonl", ".ndjson", ".json", ".parquet",
    ".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs", ".go", ".java", ".js", ".ts", ".rb", ".sh", ".sql",
    ".toml", ".yaml", ".yml", ".ini", ".cfg",
)  # fmt: skip
"""What is read from a folder where `include` doesn't say otherwise; each also with .gz, .zst, .bz2, .xz or .lz4 behind it.
PDFs are read where `include` asks for them."""
NO_EMPTY = (".parquet", ".epub", ".pdf", ".csv", ".tsv")  # kinds of which an empty file is none; it is passed over


class FoundFile(NamedTuple):
    """A file of the source: `name` is relative and part of ids, `path` is where it lies."""

    name: str
    path: str
    bytes: int


class Files(Reader):
    """Documents from files, in order of their names.

    A text file is one document (several with `separator`), a row of JSONL, JSON, Parquet, CSV or TSV is one, so are a page of HTML, a page
    of a web archive (WARC, WET, ARC), an article of a wiki's dump, a book (EPUB, PDF); compressed files are read as they are. Pages come as
    their markup, with `content_type` in `meta`, and are made text by a filter; Markdown's front matter goes into `meta`.

    Rows without the text column are conversations where their columns are those of a usual instruction, chat or preference data set; see
    `Rows`. It counts in keys by its files' names and contents; where they lie does not matter.

    Example:
        >>> Files(path="novels", include=("*.txt",), encoding="cp1252")
        >>> Files(path="hf://datasets/roneneldan/TinyStories/data", text_column="text")
    """

    path: str
    """A file, a folder, a glob, or the like at any place that fsspec reaches ("s3://…", "hf://…", "https://…")."""
    include: tuple[str, ...] = ()
    """Patterns for names in a folder ("*.txt", "en/*"), any of which must match; empty means all the usual suffixes."""
    text_column: str = "text"
    """The column of JSONL and Parquet rows to read; a list of messages in it makes a conversation."""
    meta_columns: tuple[str, ...] = ()
    """Columns to keep beside the text, as JSON in the column `meta`."""
    encoding: str = "utf-8"
    """The codec of text and JSONL files; bytes that are not in it are an error."""
    separator: str = ""
    """What stands between the documents of a text file ("<|endoftext|>", or a newline for one per line); empty: the file is one document."""
    rows: Rows = Rows()
    """How rows of JSONL, JSON and Parquet become documents, and what happens to bad ones."""
    content_types: tuple[str, ...] = PAGES
    """The media types to read from web archives, by what the server said, or what a page looks like where it said nothing."""
    namespaces: tuple[int, ...] = (0,)
    """The namespaces to read from dumps of wikis: 0 are articles, 4 is the project's, 12 help."""
    on_bad_file: Literal["stop", "count"] = "stop"
    """"stop": a text or table that cannot be read is an error that names it. "count": what can be read of it is read, and the rest is on record
    as damage, as it always is of archives, pages, dumps and books."""
    max_document_bytes: Annotated[Bytes, Le(1 << 30)] = 64 << 20
    """What one file, line, row or unpacked page may have; a longer one is refused, or passed over, before it fills the memory."""

    def check(self) -> None:
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            near = difflib.get_close_matches(self.encoding, ("utf-8", "latin-1", "cp1252", "utf-16", "ascii"), n=1, cutoff=0.4)
            raise self.refuse("encoding", f"is not a codec; {near[0] if near else 'utf-8'!r} is") from None

    def identity(self, path: str = "") -> dict[str, Any]:
        plain = {name: value for name, value in super().identity(path).items() if name != "path"}
        marks = [[file.name, self._fingerprint(file)] for file in self.files()]
        digest = hashlib.sha256(repr(marks).encode()).hexdigest()
        return plain | {"files": len(marks), "contents": digest[:32]}

    def batches(self, after: str | None = None, on_damage: OnDamage = warn) -> Iterator[pa.RecordBatch]:
        format = Format(
            text_column=self.text_column, meta_columns=self.meta_columns, encoding=self.encoding, separator=self.separator,
            limit=self.max_document_bytes, rows=self.rows, content_types=self.content_types, namespaces=self.namespaces, on_damage=on_damage,
        )
        files, behind = self.files(), None
        if after is not None:
            name, _, row = after.rpartition("#")
            name, behind = (name, row) if any(name == file.name for file in files) else (after, "")
            files = files[[file.name for file in files].index(name) :]
        if not any(file.bytes for file in files):
            raise DataError(f"Files.path={self.path!r}: {'every file is' if len(files) > 1 else 'the file is'} empty; give one with text in it")
        for file in files:
            try:
                if file.bytes or not bare(file.name).endswith(NO_EMPTY):
                    with self.open(file) as stream:
                        yield from format.read(stream, file.name, behind)
            except DataError as error:
                if self.on_bad_file == "stop":
                    raise
                on_damage(Damage(file.name, str(error), file.bytes))
            behind = None

    def total_bytes(self) -> int | None:
        return sum(file.bytes for file in self.files())

    def files(self) -> list[FoundFile]:
        """The files of the source, by name.

        Raises:
            DataError: there is nothing at `path`, or nothing in it to read.
        """
        system, root = self._system()
        with _readable(self.path):
            return _found(system, root, self.path, self.include)

    def _system(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            system, root = fsspec.core.url_to_fs(self.path)
        except ImportError as error:
            raise ConfigError(f"Files.path={self.path!r} needs another package ({error}); pip install 'bloomery[remote]'") from None
        except ValueError as error:
            raise ConfigError(f"Files.path={self.path!r} cannot be reached ({error}); give a path or a URL that fsspec knows") from None
        return system, root.rstrip("/") or root

    def open(self, file: FoundFile) -> BinaryIO:
        """A file of the source, for reading bytes."""
        with _readable(file.path):
            return self._system()[0].open(file.path, "rb")  # pyrefly: ignore[bad-return] (fsspec has no types; "rb" gives bytes)

    def _fingerprint(self, file: FoundFile) -> str:
        system = self._system()[0]
        with _readable(file.path):
            if isinstance(system, LocalFileSystem):
                stat = Path(file.path).stat()
                return _sha256(file.path, stat.st_size, stat.st_mtime_ns)
            return str(system.ukey(file.path))


@functools.lru_cache(maxsize=100_000)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    """Hashes a local file once per process, as long as its size and time do not change."""
    return sha256_of(Path(path))


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turns what the file system refuses into a `DataError`."""
    try:
        yield
    except PermissionError:
        raise DataError(f"{path} may not be read; change its permissions, or leave it out with Files(include=…)") from None
    except FileNotFoundError:
        raise DataError(f"{path} is gone, or is a link to nothing; restore or remove it") from None


def _found(system: fsspec.AbstractFileSystem, root: str, path: str, include: tuple[str, ...]) -> list[FoundFile]:
    there = system.exists(root)
    if not there and any(char in root for char in "*?["):
        base = root[: min(root.find(char) for char in "*?[" if char in root)].rsplit("/", 1)[0]
        infos = [info for info in system.glob(root, detail=True).values() if info["type"] == "file"]
        if not infos:
            raise DataError(f"Files.path={path!r} matches no file; {_nearest(system, base)}")
        return _sorted([(_under(base, info["name"]), info) for info in infos])
    if not there:
        raise DataError(f"Files.path={path!r} does not exist; {_nearest(system, root)}")
    if system.isfile(root):
        return [FoundFile(without_surrogates(PurePosixPath(root).name), root, int(system.info(root)["size"] or 0))]
    inside: dict[str, dict[str, Any]] = system.find(root, detail=True)  # pyrefly: ignore[bad-assignment] (untyped: a dict with detail=True)
    named = [(_under(root, info["name"]), info) for info in inside.values() if not _is_device(system, info)]
    seen = [(name, info) for name, info in named if not any(part.startswith(".") for part in name.split("/")[1:])]
    chosen = [(name, info) for name, info in seen if _wanted(name, include)]
    if chosen:
        return _sorted(chosen)
    if not seen:
        raise DataError(f"Files.path={path!r} is a folder without files; put text, JSONL or Parquet files in it")
    suffixes = sorted({PurePosixPath(name).suffix or PurePosixPath(name).name for name, _ in seen})[:8]
    patterns = f"none matches include={include!r}" if include else "none has a suffix that is read by itself"
    raise DataError(f"Files.path={path!r} holds {len(seen)} files, but {patterns}; it has {', '.join(suffixes)}: choose with include")


def _is_device(system: fsspec.AbstractFileSystem, info: dict[str, Any]) -> bool:
    """Whether it is a pipe, a socket or the like, which would be waited for; a link to nothing is not, so that opening it names it."""
    return info["type"] == "other" and system.exists(info["name"])


def _wanted(name: str, include: tuple[str, ...]) -> bool:
    inner = name.split("/", 1)[1]
    if include:
        return any(fnmatch.fnmatch(inner, p) or fnmatch.fnmatch(PurePosixPath(inner).name, p) for p in include)
    plain = bare(name)
    return PurePosixPath(plain).suffix in SUFFIXES or DUMP.search(plain) is not None


def _under(base: str, path: str) -> str:
    """The path from the base on, the base's own name included: names don't change when the folder moves."""
    return f"{PurePosixPath(base).name}/{path.removeprefix(base).lstrip('/')}"


def _sorted(named: list[tuple[str, dict[str, Any]]]) -> list[FoundFile]:
    return sorted(FoundFile(without_surrogates(name), info["name"], info["size"] or 0) for name, info in named)


def _nearest(system: fsspec.AbstractFileSystem, root: str) -> str:
    """What is there instead of `root`: the nearest name beside it, or the deepest folder that exists."""
    parent, missing = PurePosixPath(root).parent, PurePosixPath(root).name
    while parent != parent.parent and not system.isdir(str(parent)):
        parent, missing = parent.parent, parent.name
    if not system.isdir(str(parent)):
        return "check the address"
    names = sorted(PurePosixPath(name).name for name in system.ls(str(parent), detail=False))
    near = difflib.get_close_matches(missing, names, n=1)
    return f"did you mean {str(parent / near[0])!r}?" if near else f"{str(parent)!r} is there, but holds no {missing!r}"
