import errno
import os
from typing import Any

import numpy as np
import pytest

from crosshead.study.array_cache import cached_arrays


class Made:
    """Counts how often the arrays are made."""

    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return {"squares": np.arange(9) ** 2, "names": np.array(["a", "b"])}


def keep(folder, **changes: Any):
    fields: dict[str, Any] = {"name": "set", "parameters": {"count": 9}, "names": ("squares", "names")}
    return {"cache_dir": folder, **fields, **changes}


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def test_arrays_are_made_once_and_read_thereafter(tmp_path):
    make = Made()
    first = cached_arrays(make, **keep(tmp_path / "new" / "cache"))
    again = cached_arrays(make, **keep(tmp_path / "new" / "cache"))
    assert make.times == 1
    for name, array in first.items():
        assert array.dtype == again[name].dtype
        assert np.array_equal(array, again[name])
    assert only_file(tmp_path / "new" / "cache").match("set-*.npz")


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make = Made()
    for _ in range(2):
        cached_arrays(make, **keep(None))
    assert make.times == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [{"parameters": {"count": 8}}, {"name": "other"}])
def test_other_parameters_are_another_file(tmp_path, change):
    make = Made()
    cached_arrays(make, **keep(tmp_path))
    cached_arrays(make, **keep(tmp_path, **change))
    assert make.times == len(list(tmp_path.iterdir())) == 2


def test_the_order_of_the_parameters_does_not_matter(tmp_path):
    make = Made()
    cached_arrays(make, **keep(tmp_path, parameters={"a": 1, "b": 2}))
    cached_arrays(make, **keep(tmp_path, parameters={"b": 2, "a": 1}))
    assert make.times == 1


def test_a_damaged_file_is_refused_with_the_remedy(tmp_path, refused):
    cached_arrays(Made(), **keep(tmp_path))
    path = only_file(tmp_path)
    whole = path.read_bytes()
    middle = len(whole) // 3
    for content in (
        b"",
        b"no archive",
        *(whole[: len(whole) * part // 8] for part in range(1, 8)),
        whole[:middle] + bytes(40) + whole[middle + 40 :],
    ):
        path.write_bytes(content)
        refused(lambda: cached_arrays(Made(), **keep(tmp_path)), path, "damaged cache", "delete it")
    path.unlink()
    assert len(cached_arrays(Made(), **keep(tmp_path))["squares"]) == 9


def test_a_file_with_pickled_objects_or_other_arrays_is_refused(tmp_path, refused):
    cached_arrays(Made(), **keep(tmp_path))
    path = only_file(tmp_path)
    hostile: Any = np.array([{"run": "me"}], object)
    for arrays in ({"squares": hostile, "names": hostile}, {"squares": np.arange(9)}):
        np.savez(path, allow_pickle=True, **arrays)
        refused(lambda: cached_arrays(Made(), **keep(tmp_path)), path, "damaged cache", "delete it")


def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path, refused, monkeypatch):
    def full(file_number):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused(lambda: cached_arrays(Made(), **keep(tmp_path)), tmp_path, "No space left", "make room")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_killed_leaves_nothing_that_is_taken_for_the_arrays(tmp_path, monkeypatch):
    def killed(file_number):
        raise KeyboardInterrupt

    make = Made()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            cached_arrays(make, **keep(tmp_path))
    assert len(cached_arrays(make, **keep(tmp_path))["squares"]) == 9
    assert make.times == 2


def test_a_folder_that_is_a_file_is_refused(tmp_path, refused):
    (tmp_path / "cache").touch()
    refused(lambda: cached_arrays(Made(), **keep(tmp_path / "cache")), tmp_path / "cache", "cannot be")


def test_a_name_that_is_a_path_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"name is '\.\./set'; give one of letters"):
        cached_arrays(Made(), **keep(tmp_path, name="../set"))
