import errno
import os
from pathlib import Path

import pytest

from bloomery.core.errors import ArtifactError, ResourceError
from bloomery.store.files import atomic_file, atomic_path, os_errors, read_json, sha256_of, write_bytes, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "x"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as file:
        file.write(b"half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_nothing_is_there_before_the_block_ends(tmp_path: Path):
    path = tmp_path / "x"
    with atomic_file(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"


def test_who_may_read_the_folder_may_read_the_file(tmp_path: Path):
    for mode in (0o755, 0o700):
        tmp_path.chmod(mode)
        with atomic_path(tmp_path / "x") as temporary:
            temporary.write_bytes(b"iron")
            temporary.chmod(0o600)
        assert (tmp_path / "x").stat().st_mode & 0o777 == mode & 0o666


def test_checksums_are_of_the_bytes(tmp_path: Path):
    assert write_bytes(tmp_path / "x", b"iron") == sha256_of(tmp_path / "x")
    assert write_text(tmp_path / "y", "Eisen ü") == sha256_of(tmp_path / "y")


def test_json_round_trip_and_refusal_of_nan(tmp_path: Path):
    write_json(tmp_path / "x", {"ü": [1, None]})
    assert read_json(tmp_path / "x") == {"ü": [1, None]}
    with pytest.raises(ValueError):
        write_json(tmp_path / "x", float("nan"))


def test_reading_what_is_missing_or_torn_is_an_artifact_error(tmp_path: Path):
    with pytest.raises(ArtifactError, match="does not exist"):
        read_json(tmp_path / "x")
    (tmp_path / "x").write_text('{"a": ')
    with pytest.raises(ArtifactError, match="is not JSON"):
        read_json(tmp_path / "x")


def test_libraries_that_want_a_path_write_atomically_too(tmp_path: Path):
    path = tmp_path / "deep" / "x"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"saved")
    assert path.read_bytes() == b"saved"
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"saved"
    assert os.listdir(path.parent) == ["x"]


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "not permitted")])
def test_what_the_system_refuses_is_told_with_a_remedy(tmp_path: Path, code: int, words: str):
    with pytest.raises(ResourceError, match=f"{words}.*choose another --store"), os_errors(tmp_path):
        raise OSError(code, os.strerror(code))


def test_other_system_errors_are_not_renamed(tmp_path: Path):
    with pytest.raises(IsADirectoryError), os_errors(tmp_path):
        raise IsADirectoryError(errno.EISDIR, "is a directory")


def test_a_store_below_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="is a file, not a folder"):
        write_text(tmp_path / "file" / "x", "text")


def test_a_library_in_rust_that_finds_the_disk_full_is_understood(tmp_path: Path):
    from safetensors import SafetensorError

    with pytest.raises(ResourceError, match=r"weights: the disk is full; free some space"), atomic_path(tmp_path / "weights"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(SafetensorError), os_errors(tmp_path):
        raise SafetensorError("InvalidHeader")
