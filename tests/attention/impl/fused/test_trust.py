"""Whose library the cache's is: nobody else's is loaded, and no damaged one.

A small library stands for the kernel, and writes a file when it is loaded.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crosshead.attention.impl.fused.cpu import build, trust

SOURCE = """
#include <stdlib.h>
#include <fcntl.h>
char weight[400000] = {1};
__attribute__((constructor)) static void note(void) {
    const char *mark = getenv("MARK");
    if (mark) open(mark, O_CREAT | O_WRONLY, 0600);
}
"""
ANOTHER = 4711
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> bytes:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("library")
    (folder / "note.c").write_text(SOURCE)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", folder / "note.so", folder / "note.c"], check=True, umask=0o077
    )
    return (folder / "note.so").read_bytes()


@pytest.fixture
def cache(monkeypatch, tmp_path, library) -> Path:
    """A cache folder with a good library, on a machine on which the kernel can be built."""
    monkeypatch.setattr(build, "unsupported", lambda: None)
    monkeypatch.setattr(build, "_missing", "its library has not been looked for")
    monkeypatch.setenv("CROSSHEAD_CACHE", str(tmp_path / "parent" / "cache"))
    monkeypatch.setenv("MARK", str(tmp_path / "loaded"))
    put(library)
    return tmp_path / "parent" / "cache"


def put(content: bytes) -> None:
    """What `crosshead build` does once the compiler has written its result."""
    path = build.library_path()
    trust.make_folder(path.parent)
    (path.parent / "compiled").write_bytes(content)
    trust.keep(path.parent / "compiled", path)


def is_loaded(tmp_path: Path) -> bool:
    build.load_if_built()
    assert (tmp_path / "loaded").exists() == (build.missing() is None)
    return build.missing() is None


def test_what_this_user_has_built_is_loaded(cache, tmp_path):
    assert is_loaded(tmp_path)


def give_away(path: Path) -> None:
    os.chown(path, ANOTHER, ANOTHER, follow_symlinks=False)


def link_in_a_shared_folder(cache: Path, *, mode: int, give: bool = False) -> None:
    shared = cache.parents[1] / "shared"
    shared.mkdir()
    shared.chmod(mode)
    (shared / "link").symlink_to(cache)
    if give:
        give_away(shared / "link")
    os.environ["CROSSHEAD_CACHE"] = str(shared / "link")  # the fixture takes it back


def exchange_for_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


CHMOD, REBUILD = r"run `chmod go-w \S+` if .*CROSSHEAD_CACHE", "run `crosshead build`"
# What another user did, or may do at any time, and the remedy that is told.
ATTACKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "the group may write to the folder": (lambda cache: cache.chmod(0o770), CHMOD),
    "others may write to the folder": (lambda cache: cache.chmod(0o702), CHMOD),
    "others may write to the folder, and it is sticky": (lambda cache: cache.chmod(0o1777), CHMOD),
    "others may rename the folder": (lambda cache: cache.parent.chmod(0o777), CHMOD),
    "others may rename the folder's parent": (lambda cache: cache.parents[1].chmod(0o707), CHMOD),
    "others may exchange a link to the folder": (
        lambda cache: link_in_a_shared_folder(cache, mode=0o777),
        CHMOD,
    ),
    "others may write to the library": (lambda _: build.library_path().chmod(0o606), REBUILD),
    "the group may write to the library": (lambda _: build.library_path().chmod(0o660), REBUILD),
    "others may write to the checksum": (
        lambda _: trust.checksum_file(build.library_path()).chmod(0o606),
        REBUILD,
    ),
    "the library is a link": (lambda _: exchange_for_a_link(build.library_path()), REBUILD),
    "the checksum is a link": (
        lambda _: exchange_for_a_link(trust.checksum_file(build.library_path())),
        REBUILD,
    ),
}
# For these it takes root to play the other user.
THEFTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "the folder": (give_away, r"run `chown 0 \S+/cache` if .*CROSSHEAD_CACHE"),
    "the folder's parent": (
        lambda cache: give_away(cache.parent),
        r"run `chown 0 \S+/parent` if .*CROSSHEAD_CACHE",
    ),
    "a link to the folder, in a sticky folder": (
        lambda cache: link_in_a_shared_folder(cache, mode=0o1777, give=True),
        "name a folder of your own in the environment variable CROSSHEAD_CACHE",
    ),
    "the library": (lambda _: give_away(build.library_path()), REBUILD),
    "the checksum": (lambda _: give_away(trust.checksum_file(build.library_path())), REBUILD),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_others_can_change_is_not_loaded(cache, tmp_path, attack):
    change, remedy = ATTACKS[attack]
    change(cache)
    assert not is_loaded(tmp_path)
    assert re.search(remedy, str(build.missing()))


@as_root
@pytest.mark.parametrize("stolen", THEFTS)
def test_what_belongs_to_another_user_is_not_loaded(cache, tmp_path, stolen):
    change, remedy = THEFTS[stolen]
    change(cache)
    assert not is_loaded(tmp_path)
    assert f"belongs to user {ANOTHER}, and this is user 0" in str(build.missing())
    assert re.search(remedy, str(build.missing()))


@as_root
def test_what_root_has_built_is_loaded_by_everyone(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: ANOTHER)
    assert is_loaded(tmp_path)


@pytest.mark.parametrize("attack", [name for name, (_, remedy) in ATTACKS.items() if remedy == CHMOD])
def test_building_in_a_refused_folder_says_what_to_do_which_helps(cache, tmp_path, monkeypatch, attack):
    monkeypatch.setattr(build, "_compile", lambda target: target.write_bytes(b"never"))
    before = sorted(cache.iterdir())
    ATTACKS[attack][0](cache)
    with pytest.raises(OSError, match=CHMOD) as caught:
        build.build(force=True)
    assert sorted(cache.iterdir()) == before
    remedy = re.search("`(chmod [^`]+)`", str(caught.value))
    assert remedy
    subprocess.run(remedy[1], shell=True, check=True)
    assert is_loaded(tmp_path)


@pytest.mark.parametrize("attack", [name for name, (_, remedy) in ATTACKS.items() if remedy == REBUILD])
def test_building_replaces_a_refused_file(cache, tmp_path, monkeypatch, library, attack):
    ATTACKS[attack][0](cache)
    monkeypatch.setattr(build, "_compile", lambda target: target.write_bytes(library))
    assert build.build() == build.library_path()
    assert is_loaded(tmp_path)


def test_a_sticky_parent_and_links_of_our_own_are_fine(cache, tmp_path):
    cache.parent.chmod(0o1777)
    (tmp_path / "first").symlink_to("parent/../second")
    (tmp_path / "second").symlink_to(cache)
    os.environ["CROSSHEAD_CACHE"] = str(tmp_path / "first")
    assert is_loaded(tmp_path)


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def change_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a changed byte": change_a_byte,
    "more than was built": lambda path: cut(path, path.stat().st_size + 1),
    "a terabyte": lambda path: cut(path, 1 << 40),
    "no checksum": lambda path: trust.checksum_file(path).unlink(),
    "half a checksum": lambda path: cut(trust.checksum_file(path), 30),
    "an endless checksum": lambda path: cut(trust.checksum_file(path), 1 << 40),
    "another's checksum": lambda path: trust.checksum_file(path).write_text(f"{'0' * 64} 7\n"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_as_it_was_built_is_not_loaded_but_built_again(
    cache, tmp_path, monkeypatch, library, damage
):
    DAMAGES[damage](build.library_path())
    assert not is_loaded(tmp_path)
    assert "is damaged or was not built to the end: run `crosshead build`" in str(build.missing())
    monkeypatch.setattr(build, "_compile", lambda target: target.write_bytes(library))
    build.build()
    assert is_loaded(tmp_path)
    assert sorted(path.suffix for path in cache.iterdir()) == [".sha256", ".so"]


CUT_SHORT = """
import os, sys
from pathlib import Path
from crosshead.attention.impl.fused.cpu import build
build.unsupported = lambda: None
for folder in sys.argv[1:]:
    os.environ["CROSSHEAD_CACHE"] = folder
    build._missing = "its library has not been looked for"
    build.load_if_built()
    print(build.missing(), flush=True)
"""


def test_a_library_that_was_cut_short_does_not_end_the_process(cache, library):
    folders = []
    for size in (0, 1, 1_000, 20_000, 300_000):
        os.environ["CROSSHEAD_CACHE"] = str(cache.parent / str(size))
        put(library)
        cut(build.library_path(), size)
        folders.append(os.environ["CROSSHEAD_CACHE"])
    run = subprocess.run([sys.executable, "-c", CUT_SHORT, *folders], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    told = run.stdout.splitlines()
    assert len(told) == len(folders)
    assert all("run `crosshead build`" in line for line in told)


def exchange(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("which", [lambda path: path, trust.checksum_file])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_what_is_no_file_neither_hangs_nor_raises(cache, tmp_path, monkeypatch, library, which, make):
    place = which(build.library_path())
    exchange(place, make)
    assert not is_loaded(tmp_path)
    assert f"{place} is not a regular file: remove it, then run `crosshead build`" in str(build.missing())
    monkeypatch.setattr(build, "_compile", lambda target: target.write_bytes(library))
    if make is Path.mkdir:
        with pytest.raises(OSError, match="is not a regular file: remove it"):
            build.build()
        place.rmdir()
    build.build()
    assert is_loaded(tmp_path)


@pytest.mark.parametrize("place", ["file", "file/below", "circle", "n" * 300, "/dev/null", "/proc/version/x"])
def test_a_cache_that_is_no_folder_neither_hangs_nor_raises(cache, tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    os.environ["CROSSHEAD_CACHE"] = str(tmp_path / place)
    assert not is_loaded(tmp_path)
    assert "CROSSHEAD_CACHE" in str(build.missing())
    with pytest.raises(OSError):  # noqa: PT011 - each has its own
        build.build()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_cache_without_permission_neither_hangs_nor_raises(cache, tmp_path):
    for place, mode in ((build.library_path(), 0), (cache, 0o600), (cache.parent, 0)):
        place.chmod(mode)
        assert not is_loaded(tmp_path)
        assert "cannot be read (Permission denied): name a folder" in str(build.missing())
        place.chmod(0o700)
    assert is_loaded(tmp_path)


@pytest.mark.parametrize("umask", [0, 0o002, 0o177, 0o777])
def test_whatever_the_umask_folders_and_files_are_this_users_alone(
    cache, tmp_path, monkeypatch, library, umask
):
    (tmp_path / "library").write_bytes(library)
    (tmp_path / "compiler").write_text(
        f"#!/bin/sh\nwhile [ $1 != -o ]; do shift; done; cat {tmp_path}/library > $2"
    )
    (tmp_path / "compiler").chmod(0o700)
    monkeypatch.setenv("CXX", str(tmp_path / "compiler"))
    monkeypatch.setenv("CROSSHEAD_CACHE", str(tmp_path / "a" / "b" / "c"))
    before = os.umask(umask)
    try:
        path = build.build()
    finally:
        os.umask(before)
    assert is_loaded(tmp_path)
    modes = {
        place.name: place.stat().st_mode & 0o7777 for place in (*path.parents[:3], *path.parent.iterdir())
    }
    assert modes == {
        **dict.fromkeys("abc", 0o700),
        path.name: 0o600,
        f"{path.name}.sha256": 0o600,
    }


class Killed(BaseException):
    """Stands for a process that ends."""


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("time", [1, 2])
def test_killed_while_a_library_is_put_in_place_nothing_is_loaded_that_was_not_checked(
    cache, tmp_path, monkeypatch, library, step, time
):
    """Each step is killed before it is taken; the old library stays good until the first replacement."""
    place = {"fsync": os, "replace": Path}[step]
    real, calls = getattr(place, step), []

    def kill(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == time:
            raise Killed
        return real(*arguments)

    newer = library + b"newer"
    monkeypatch.setattr(build, "_compile", lambda target: target.write_bytes(newer))
    with monkeypatch.context() as patch:
        patch.setattr(place, step, kill)
        with pytest.raises(Killed):
            build.build(force=True)
    if (step, time) == ("replace", 2):
        assert not is_loaded(tmp_path)
        assert "was not built to the end: run `crosshead build`" in str(build.missing())
        assert build.build().read_bytes() == newer
    assert is_loaded(tmp_path)
