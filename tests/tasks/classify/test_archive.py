import errno
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from crosshead.tasks.classify.archive import extract_archive

CONTENT = {"set/train/cat/1.jpg": b"a cat" * 2000, "set/train/dog/1.jpg": b"a dog", "set/empty.txt": b""}
SUFFIXES = [".tar.xz", ".tar.gz", ".tgz", ".zip"]


def pack(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        mode = "w:xz" if path.suffix == ".xz" else "w:gz"
        with tarfile.open(path, mode) as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def read(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def everything_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_content_is_unpacked_once(tmp_path, suffix):
    path = pack(tmp_path / f"set{suffix}", CONTENT)
    folder = extract_archive(path, cache_dir=tmp_path / "cache")
    assert read(folder) == CONTENT
    (folder / "set" / "empty.txt").write_bytes(b"mine")
    assert extract_archive(path, cache_dir=tmp_path / "cache") == folder
    assert (folder / "set" / "empty.txt").read_bytes() == b"mine"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]


def test_an_archive_that_has_changed_is_unpacked_anew(tmp_path):
    path = tmp_path / "set.zip"
    first = extract_archive(pack(path, {"a": b"old"}), cache_dir=tmp_path)
    second = extract_archive(pack(path, {"a": b"new"}), cache_dir=tmp_path)
    assert (read(first), read(second)) == ({"a": b"old"}, {"a": b"new"})


def test_the_cache_is_where_the_platform_has_it(tmp_path, monkeypatch):
    path = pack(tmp_path / "set.zip", CONTENT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert extract_archive(path).parent == tmp_path / "xdg" / "crosshead"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert extract_archive(path).parent == tmp_path / "home" / ".cache" / "crosshead"


@pytest.mark.parametrize("name", ["../evil", "set/../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "C:evil"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_members_that_point_outside_are_refused(tmp_path, refused, suffix, name):
    path = pack(tmp_path / f"set{suffix}", {"fine": b"", name: b"evil"})
    before = everything_below(tmp_path)
    refused(
        lambda: extract_archive(path, cache_dir=tmp_path / "cache"),
        path,
        "points outside",
        "from its publisher",
    )
    assert everything_below(tmp_path) - before == {"cache"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
@pytest.mark.parametrize("target", ["/etc", "../..", "fine"])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, refused, kind, target):
    path = tmp_path / "set.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("fine"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = kind, target
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("link/evil"))
    before = everything_below(tmp_path)
    refused(lambda: extract_archive(path, cache_dir=tmp_path / "cache"), path, "'link' is a link or device")
    assert everything_below(tmp_path) - before == {"cache"}


def test_links_in_a_zip_are_refused(tmp_path, refused):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    refused(lambda: extract_archive(path, cache_dir=tmp_path / "cache"), path, "'link' is a link or device")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_archive_leaves_nothing_behind(tmp_path, refused, suffix):
    path = pack(tmp_path / f"set{suffix}", CONTENT)
    whole = path.read_bytes()
    middle = len(whole) // 2
    for content in (
        b"",
        b"no archive",
        *(whole[: len(whole) * part // 8] for part in range(1, 8)),
        whole[:middle] + bytes(20) + whole[middle + 20 :],
    ):
        path.write_bytes(content)
        refused(lambda: extract_archive(path, cache_dir=tmp_path / "cache"), path, "get the file again")
        assert everything_below(tmp_path / "cache") == set()


def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path, refused, monkeypatch):
    path, cache = pack(tmp_path / "set.tar.gz", CONTENT), tmp_path / "cache"
    copies = []

    def copy(source, target, *_):
        copies.append(target)
        if len(copies) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "copyfileobj", copy)
        refused(
            lambda: extract_archive(path, cache_dir=cache), path, str(cache), "No space left", "make room"
        )
    assert everything_below(cache) == set()
    assert read(extract_archive(path, cache_dir=cache)) == CONTENT


def test_what_a_killed_process_left_is_not_taken_for_the_content(tmp_path, monkeypatch):
    path, cache = pack(tmp_path / "set.tar.gz", CONTENT), tmp_path / "cache"

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "copyfileobj", killed)
        # A killed process does not tidy up either.
        patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(KeyboardInterrupt):
            extract_archive(path, cache_dir=cache)
    assert everything_below(cache)
    assert read(extract_archive(path, cache_dir=cache)) == CONTENT


def test_a_missing_archive_and_an_unusable_cache_are_named(tmp_path, refused):
    refused(
        lambda: extract_archive(tmp_path / "none.zip", cache_dir=tmp_path), tmp_path / "none.zip", "cannot be"
    )
    (tmp_path / "file").touch()
    path = pack(tmp_path / "set.zip", CONTENT)
    refused(
        lambda: extract_archive(path, cache_dir=tmp_path / "file"), path, str(tmp_path / "file"), "cache_dir"
    )
