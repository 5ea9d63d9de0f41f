from importlib.metadata import version


def test_versions_machine_and_implementations_are_told(crosshead):
    answer = crosshead("info")
    assert answer.code == 0
    assert answer.err == ""
    rows = {
        cells[1].strip(): cells[2].strip()
        for cells in (line.split("│") for line in answer.out.splitlines())
        if len(cells) > 2
    }
    assert rows["torch"] == version("torch")
    assert rows["timm"] == version("timm")
    assert int(rows["cores"]) > 0
    assert [rows[name] for name in ("reference", "streamed", "fused", "auto")] == ["yes", "yes", "no", "yes"]
