"""`crosshead build`: what it says when it works, when it cannot, and when the result is wrong."""

import pytest

from crosshead.attention.impl.fused.cpu import build, trust


def test_help_tells_what_is_built_and_where_it_is_kept(crosshead):
    answer = crosshead("build", "--help")
    assert answer.code == 0
    for word in ("--force", "CROSSHEAD_CACHE", "AVX2 or AVX-512"):
        assert word in answer.out


@pytest.mark.skipif(build.missing() is not None, reason=f"the CPU kernel is not ready: {build.missing()}")
def test_what_is_built_is_not_built_again(crosshead):
    before = build.library_path().stat()
    answer = crosshead("build")
    assert answer.code == 0
    assert answer.err == ""
    assert "was built already and agrees with the equations" in " ".join(answer.out.split())
    assert answer.out.splitlines()[-1] == str(build.library_path())
    assert build.library_path().stat() == before


@pytest.fixture
def not_built(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(build, "unsupported", lambda: None)
    monkeypatch.setattr(build, "_missing", "its library has not been looked for")
    monkeypatch.setenv("CROSSHEAD_CACHE", str(tmp_path / "cache"))


def test_without_a_compiler_one_line_says_what_to_install(crosshead, not_built, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    answer = crosshead("build")
    assert answer.code == 1
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    for word in ("install g++", "CXX", "impl='streamed'"):
        assert word in answer.err


def test_an_unsupported_machine_is_one_line_too(crosshead, not_built, monkeypatch):
    monkeypatch.setattr(build, "unsupported", lambda: "it needs AVX2 or AVX-512; torch finds DEFAULT here")
    answer = crosshead("build")
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert "AVX2 or AVX-512" in answer.err


def test_a_cache_that_others_may_write_to_is_one_line_with_the_remedy(crosshead, not_built, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    answer = crosshead("build")
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    for word in (f"error: others than its owner may write to {tmp_path}", "chmod go-w", "CROSSHEAD_CACHE"):
        assert word in answer.err


@pytest.mark.parametrize("deviation", [0.1, float("nan")])
def test_a_kernel_that_computes_wrongly_is_removed(crosshead, monkeypatch, tmp_path, deviation):
    library = tmp_path / "attention.so"
    library.write_bytes(b"wrong")
    trust.checksum_file(library).write_text("its checksum")
    monkeypatch.setattr(build, "build", lambda *, force: library)
    monkeypatch.setattr("crosshead.cli.build._deviation_in_a_new_process", lambda: deviation)
    answer = crosshead("build")
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert f"{deviation:.1e}" in answer.err
    assert list(tmp_path.iterdir()) == []
