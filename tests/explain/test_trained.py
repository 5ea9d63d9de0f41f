"""A trained model, loaded in one line, is looked into in two."""

import crosshead
from crosshead.explain import map_rows, record
from crosshead.explain.pictures import draw_maps


def test_a_run_is_looked_into_while_it_predicts(dense_run, label_data):
    model = crosshead.load(dense_run("segment").path, accelerator="cpu")
    with record(model.net) as recording:
        result = model.predict(label_data / "val" / "images" / "1.png")
    assert recording.names == [f"net.encoder.model.stages_{stage}.blocks.0.attn" for stage in (1, 2)]
    call = recording[0]
    assert map_rows(call, (0, 0)).shape == (1, call.heads, 1, call.grid[0] * call.grid[1])
    assert draw_maps(call, result.image, (0, 0)).mode == "RGB"
