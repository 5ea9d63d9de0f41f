import shutil

from crosshead.tasks.classify.audit import audit_folder

SOUND = [f"{split}/{name}/{n}.png" for split in ("train", "val") for name in ("cat", "dog") for n in range(3)]


def test_nothing_is_found_in_a_sound_folder(write_images):
    assert list(audit_folder(write_images(*SOUND))) == []
    root = write_images()
    shutil.rmtree(root)
    assert list(audit_folder(write_images("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"))) == []


def test_everything_that_is_wrong_is_listed_a_line_each(write_images):
    root = write_images(*SOUND)
    (root / "train" / "cat" / "1.png").write_bytes(b"broken")
    (root / "val" / "dog" / "2.png").write_bytes((root / "val" / "dog" / "2.png").read_bytes()[:50])
    (root / "train" / "fox").mkdir()
    (root / "val" / "readme.txt").touch()
    shutil.copy(root / "train" / "dog" / "0.png", root / "val" / "dog" / "copy.png")
    lines = list(audit_folder(root))
    expected = {
        "train/fox": "no image in this class folder",
        "val/fox": "no such class folder",
        "val/readme.txt": "ignored: no image by its extension",
        "train/cat/1.png": "not readable as an image",
        "val/dog/2.png": "not readable as an image",
        "val/dog/copy.png": f"byte for byte the same as {root}/train/dog/0.png; leave one of them out",
    }
    assert len(lines) == len(expected)
    for line, (place, reason) in zip(lines, expected.items(), strict=True):
        assert line.startswith(f"{root / place}: {reason}")
        assert "\n" not in line


def test_a_tree_without_splits_needs_two_images_in_each_class(write_images):
    root = write_images("cat/1.png", "cat/2.png", "dog/1.png")
    assert [line.partition(":")[0] for line in audit_folder(root)] == [str(root / "dog")]


def test_a_folder_without_a_layout_is_one_finding(write_images):
    root = write_images("train/cat/1.png")
    assert list(audit_folder(root)) == [
        f"{root}: has train/ but no val/, test/ or valid/; add the held-out split"
    ]
