from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata


def events(run) -> EventAccumulator:
    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"tensors": 0})
    found.Reload()
    return found


def test_scalars_stand_in_groups(trained):
    scalars = set(events(trained).Tags()["scalars"])
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "train/loss_of_step"} <= scalars
    assert {"learning-rate", "time/seconds_of_epoch", "time/images_per_second", "time/epoch"} <= scalars
    assert not [tag for tag in scalars if tag.startswith(("val_", "train_", "step_", "hp"))]


def test_the_learning_rate_is_that_of_metrics_csv(trained):
    rates = [event.value for event in events(trained).Scalars("learning-rate")]
    assert len(rates) == 2
    assert rates[0] > rates[1] == 0


def test_the_recipe_is_shown_as_text_and_as_choices_beside_the_score(trained):
    found = events(trained)
    (text,) = found.Tensors("recipe/text_summary")
    assert b'"model": "ivit_nano"' in text.tensor_proto.string_val[0]
    data = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    choices = metadata.parse_session_start_info_plugin_data(data).hparams
    assert choices["batch_size"].number_value == 256
    assert choices["task"].string_value == "classify"
    data = found.SummaryMetadata("_hparams_/experiment").plugin_data.content
    metrics = metadata.parse_experiment_plugin_data(data).metric_infos
    assert [metric.name.tag for metric in metrics] == ["val/accuracy"]
