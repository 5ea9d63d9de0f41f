from crosshead.tasks.counts import MOST_CLASSES, Counts


def test_of_many_classes_the_rarest_are_shown():
    classes = {f"images of {number}": {"train": number, "test": 1000} for number in range(100)}
    *lines, last = Counts(totals={"images": {"train": 4950, "test": 100_000}}, classes=classes).lines()
    assert lines[0].split() == ["train", "test"]
    assert lines[1].split() == ["images", "4,950", "100,000"]
    assert [line.split()[2] for line in lines[2:]] == list(map(str, range(MOST_CLASSES)))
    assert last == "and 80 more classes, which have more"
    assert len(set(map(len, lines))) == 1


def test_notes_come_last():
    counts = Counts(totals={"images": {"train": 1}}, classes={}, notes=("so it is",))
    assert counts.lines()[-1] == "so it is"
