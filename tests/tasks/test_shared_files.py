import pytest

from crosshead.tasks.shared_files import shared_files


@pytest.fixture
def files(tmp_path):
    def write(**contents):
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
        return [tmp_path / name for name in contents]

    return write


def test_files_of_the_same_content_are_found_whatever_their_name(files):
    first, second, third, fourth = files(a=b"1", b=b"2", c=b"1", d=b"3")
    assert list(shared_files([first, second], [third, fourth])) == [
        f"{third}: byte for byte the same as {first} of the training split; leave one of them out"
    ]


def test_a_file_that_is_in_both_splits_is_found(files):
    first, second = files(a=b"1", b=b"2")
    assert list(shared_files([first], [second, first])) == [
        f"{first}: in both the training and the test split; take it out of one"
    ]


def test_files_may_repeat_within_one_split(files):
    first, second, third = files(a=b"1", b=b"1", c=b"2")
    assert list(shared_files([first, second], [third])) == []
