"""Compiling and loading the CPU's kernel: what it needs, says where that is missing, and leaves behind.

No compiler runs here: scripts stand for one, good or bad.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from crosshead.attention.impl.fused.cpu import build, trust


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    build.unsupported.cache_clear()
    build._fingerprint.cache_clear()
    yield
    build.unsupported.cache_clear()
    build._fingerprint.cache_clear()


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Path:
    """The empty cache folder of a machine on which the kernel can be built and is not."""
    monkeypatch.setattr(build, "unsupported", lambda: None)
    monkeypatch.setattr(build, "_missing", "its library has not been looked for")
    monkeypatch.setenv("CROSSHEAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compiler(monkeypatch, tmp_path) -> Callable[[str], Path]:
    """Makes a shell script the C++ compiler; $target is the file to write, and its arguments are noted."""

    def install(script: str) -> Path:
        path, noted = tmp_path / "compiler", tmp_path / "arguments"
        find = 'while [ "$1" != -o ]; do shift; done; target=$2'
        path.write_text(f'#!/bin/sh\necho "$@" >> {noted}\n{find}\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        return noted

    return install


def test_without_a_compiler_it_is_told_what_to_install(folder, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotImplementedError) as caught:
        build.build()
    for word in ("C++ compiler", "install g++", "CXX", "impl='streamed'"):
        assert word in str(caught.value)


def test_a_compiler_that_does_not_start_is_named(folder, monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/compiler")
    with pytest.raises(NotImplementedError, match=r"/nowhere/compiler.*does not start"):
        build.build()


def test_a_compiler_that_fails_is_quoted_by_its_first_error(folder, compiler):
    compiler('echo "note: look\na.h:7: error: no such word\na.h:9: error: another" >&2; exit 1')
    with pytest.raises(NotImplementedError) as caught:
        build.build()
    for word in ("a.h:7: error: no such word", "C++20", "g++ 11"):
        assert word in str(caught.value)
    for word in ("note: look", "another"):
        assert word not in str(caught.value)


def test_a_compiler_that_fails_without_a_word_of_error_is_quoted_by_its_end(folder, compiler):
    compiler('echo "killed by a signal" >&2; exit 1')
    with pytest.raises(NotImplementedError, match="killed by a signal"):
        build.build()


def test_a_failing_compiler_leaves_no_half_written_library(folder, compiler):
    compiler('echo "half a library" > $target; exit 1')
    with pytest.raises(NotImplementedError):
        build.build()
    assert list(folder.iterdir()) == []


def test_a_failing_compiler_leaves_an_older_library_as_it_was(folder, compiler):
    folder.mkdir(mode=0o700)
    build.library_path().write_bytes(b"older")
    compiler('echo "half a library" > $target; exit 1')
    with pytest.raises(NotImplementedError):
        build.build(force=True)
    assert build.library_path().read_bytes() == b"older"
    assert [path.name for path in folder.iterdir()] == [build.library_path().name]


def test_a_library_appears_under_its_name_only_when_it_is_whole(folder, compiler, monkeypatch):
    monkeypatch.setattr(build, "load_if_built", lambda: monkeypatch.setattr(build, "_missing", None))
    noted = compiler(f"printf whole > $target; [ -e {build.library_path()} ] && exit 1; exit 0")
    path = build.build()
    assert path == build.library_path()
    assert path.read_bytes() == b"whole"
    assert sorted(folder.iterdir()) == [path, trust.checksum_file(path)]
    arguments = noted.read_text().split()
    assert f"-o {path} " not in noted.read_text()
    assert str(build.SOURCE) in arguments
    assert set(build.flags()) < set(arguments)


def keep(content: bytes) -> None:
    path = build.library_path()
    trust.make_folder(path.parent)
    compiled = path.with_name("compiled")
    compiled.write_bytes(content)
    trust.keep(compiled, path)


def test_what_exists_is_compiled_again_only_by_force(folder, compiler, monkeypatch):
    monkeypatch.setattr(build, "load_if_built", lambda: monkeypatch.setattr(build, "_missing", None))
    noted = compiler("printf newer > $target")
    keep(b"older")
    assert build.build().read_bytes() == b"older"
    assert not noted.exists()
    assert build.build(force=True).read_bytes() == b"newer"


def test_a_compiler_may_have_arguments(folder, compiler, monkeypatch):
    noted = compiler("exit 1")
    monkeypatch.setenv("CXX", f"{os.environ['CXX']} --launcher")
    with pytest.raises(NotImplementedError):
        build.build()
    assert noted.read_text().startswith("--launcher -O3 ")


def test_what_a_compiler_made_must_load(folder, compiler):
    compiler("printf garbage > $target")
    with pytest.raises(NotImplementedError, match=r"was built, but its library does not load.*--force"):
        build.build()
    assert "does not load" in str(build.missing())


def test_a_cache_that_cannot_be_written_is_an_os_error(folder, compiler):
    folder.write_text("a file where the folder should be")
    compiler("printf whole > $target")
    with pytest.raises(OSError, match="cache"):
        build.build()


def test_looking_for_a_library_never_compiles_and_never_raises(folder, compiler):
    noted = compiler("printf whole > $target")
    build.load_if_built()
    assert "crosshead build" in str(build.missing())
    keep(b"garbage")
    build.load_if_built()
    assert "crosshead build --force" in str(build.missing())
    assert not noted.exists()


@pytest.mark.parametrize(
    ("module", "name", "answer", "says"),
    [
        (platform, "system", "Darwin", ["Linux", "Darwin"]),
        (platform, "machine", "aarch64", ["x86-64", "aarch64"]),
        (torch.backends.cpu, "get_cpu_capability", "DEFAULT", ["AVX2 or AVX-512", "DEFAULT"]),
    ],
)
def test_an_unsupported_machine_is_told_why(monkeypatch, module, name, answer, says):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for enough in ("AVX2", "AVX512"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda enough=enough: enough)
        assert build.unsupported() is None
        build.unsupported.cache_clear()
    monkeypatch.setattr(module, name, lambda: answer)
    monkeypatch.setattr(build, "_missing", "its library has not been looked for")
    build.load_if_built()
    with pytest.raises(NotImplementedError) as caught:
        build.build()
    for word in says:
        assert word in str(build.missing())
        assert word in str(caught.value)
    assert "impl='streamed'" in str(caught.value)


def test_the_library_is_kept_where_the_user_says_or_where_caches_are(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("CROSSHEAD_CACHE", raising=False)
    assert build.library_path().parent == tmp_path / "home/.cache/crosshead"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert build.library_path().parent == tmp_path / "xdg/crosshead"
    monkeypatch.setenv("CROSSHEAD_CACHE", str(tmp_path / "mine"))
    assert build.library_path().parent == tmp_path / "mine"


def with_another_source(monkeypatch, tmp_path: Path, name: str) -> None:
    shutil.copytree(build.FOLDER, tmp_path / "cpu")
    monkeypatch.setattr(build, "FOLDER", tmp_path / "cpu")
    assert_same_name_as_before(monkeypatch)
    source = tmp_path / "cpu" / name
    source.write_text(source.read_text() + "\n")


def assert_same_name_as_before(monkeypatch) -> None:
    """A copy of the sources somewhere else gives the same library."""
    copied = name_now()
    with monkeypatch.context() as original:
        original.setattr(build, "FOLDER", Path(build.__file__).parent)
        assert name_now() == copied


def name_now() -> str:
    build._fingerprint.cache_clear()
    return build.library_path().name


CHANGES = {
    **{
        path.name: lambda patch, tmp, name=path.name: with_another_source(patch, tmp, name)
        for path in (build.FOLDER / "attention.cpp", build.FOLDER / "vectors.h")
    },
    "torch": lambda patch, _: patch.setattr(torch, "__version__", "2.99.0"),
    "torch's commit": lambda patch, _: patch.setattr(torch.version, "git_version", "0123abc"),
    "flags": lambda patch, _: patch.setattr(build, "FLAGS", (*build.FLAGS, "-g")),
    "instructions": lambda patch, _: patch.setattr(build, "INSTRUCTIONS", {"AVX2": ["-x"], "AVX512": ["-x"]}),
    "processor": lambda patch, _: patch.setattr(build, "_processor", lambda: ["flags : avx512f"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_library_has_another_name_after_a_change_of(change, monkeypatch, tmp_path):
    before = name_now()
    assert name_now() == before
    CHANGES[change](monkeypatch, tmp_path)
    assert name_now() != before


@pytest.mark.slow
@pytest.mark.skipif(build.unsupported() is not None, reason=f"no CPU kernel here: {build.unsupported()}")
@pytest.mark.parametrize("capability", ["avx2", "avx512"])
def test_it_compiles_in_an_empty_cache_and_is_there_the_next_time(capability, tmp_path):
    if capability == "avx512" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this processor has no AVX-512")
    environment = {**os.environ, "CROSSHEAD_CACHE": str(tmp_path), "ATEN_CPU_CAPABILITY": capability}
    answers = [
        subprocess.run(
            [sys.executable, "-m", "crosshead.cli.main", "build"],
            env=environment,
            capture_output=True,
            text=True,
        )
        for _ in range(2)
    ]
    assert [answer.returncode for answer in answers] == [0, 0], answers
    assert "is built" in answers[0].stdout
    assert "was built already" in answers[1].stdout
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".sha256", ".so"]
