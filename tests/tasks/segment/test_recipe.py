import pytest


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"in_chans": 2}, r"^in_chans is 2: give 1 \(grey\) or 3 \(colour\)"),
        ({"ignore_index": 70_000}, r"^ignore_index is 70000: give a value of 0\.\.65535, or None$"),
        ({"ignore_index": -1}, "^ignore_index is -1"),
        ({"class_names": ("sky",)}, r"^class_names is \('sky',\): give two or more, each once$"),
        ({"class_names": ("sky", "sea", "sky")}, "^class_names is .*each once$"),
        ({"dice": -1.0}, "^dice is -1.0"),
        ({"scale": (2.0, 1.0)}, "^scale is 2.0, 1.0"),
        ({"scale": (0.0, 1.0)}, "^scale is 0.0, 1.0"),
        ({"crop": 0}, "^crop is 0"),
    ],
)
def test_what_has_no_meaning_is_refused(recipe_of, choices, message):
    recipe_of(None, ignore_index=None, class_names=("sky", "sea"), in_chans=1).check()
    with pytest.raises(ValueError, match=message):
        recipe_of(None, **choices).check()
