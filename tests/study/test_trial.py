"""What decides a trial, how it is written down, and how a mechanism is named."""

import subprocess
import sys

import pytest

from crosshead.study.trial import attention_options


def test_the_facts_are_all_fields_flat(make_trial):
    facts = make_trial(seed=4, dim=24, attention="softmax").facts()
    assert "shape" not in facts
    assert (facts["seed"], facts["dim"], facts["attention"], facts["samples"]) == (4, 24, "softmax", 640)
    assert len(facts) == 9 + 7


@pytest.mark.parametrize(
    "change",
    [
        {"data": "cifar10"},
        {"split": "validation"},
        {"attention": "softmax"},
        {"samples": 641},
        {"batch_size": 17},
        {"learning_rate": 0.003},
        {"weight_decay": 0.1},
        {"precision": "bf16-mixed"},
        {"seed": 1},
        {"image_size": 10},
        {"landmarks": 3},
        {"mlp_ratio": 3},
    ],
)
def test_whatever_changes_a_training_changes_its_key(make_trial, change):
    assert make_trial(**change).key() != make_trial().key()
    assert make_trial(**change) != make_trial()
    assert make_trial().key() == make_trial().key()


def test_tokens_are_counted_along_two_axes_of_an_image_and_one_of_a_sequence(make_trial):
    assert make_trial(image_size=28, patch_size=2).tokens == 196
    assert make_trial(data="list-ops", image_size=512, patch_size=1).tokens == 512


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("softmax", "softmax", {}),
        ("interactive:mixing=none,local_kernel=3", "interactive", {"mixing": "none", "local_kernel": 3}),
        (
            "ivit:attention_stages=(1,2,3),mlp_ratio=1.5",
            "ivit",
            {"attention_stages": (1, 2, 3), "mlp_ratio": 1.5},
        ),
        ("ivit:attention_stages=(3,)", "ivit", {"attention_stages": (3,)}),
        ("softmax:qkv_bias=False", "softmax", {"qkv_bias": False}),
    ],
)
def test_a_mechanism_is_a_name_with_options(text, name, options):
    assert attention_options(text) == (name, options)


@pytest.mark.parametrize("text", ["interactive:mixing", "interactive:=3", "interactive:mixing=", "a:b c=1"])
def test_an_option_without_name_or_value_is_told(text):
    with pytest.raises(ValueError, match="give name:option=value"):
        attention_options(text)


def test_trials_plans_and_options_wait_for_no_torch():
    code = (
        "import sys, crosshead.study.plans, crosshead.study.execution\n"
        "sys.exit(', '.join({'torch', 'timm', 'lightning', 'matplotlib'} & sys.modules.keys()) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
