"""Settings: where they come from, which one wins, and what is said about a wrong one."""

from pathlib import Path

import pytest

from pcrnn.config import TrainConfig, check_resumable, read_toml
from pcrnn.errors import CheckpointError, UsageError
from pcrnn.training.train import train


def toml(folder: Path, content: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(content, encoding="utf-8")
    return path


def test_a_toml_file_replaces_defaults_and_leaves_the_rest(tmp_path):
    config = read_toml(toml(tmp_path, "hidden = [8, 16]\nlr = 1\ncheckpoint-every = 5\nrule = 'bptt'\n"))
    assert config == TrainConfig(hidden=(8, 16), lr=1.0, checkpoint_every=5, rule="bptt")
    assert isinstance(config.lr, float)


def test_settings_survive_json_like_values():
    config = TrainConfig(hidden=(3,), rule_options={"hops": 2}, betas=(0.5, 0.75))
    as_lists = {k: list(v) if isinstance(v, tuple) else v for k, v in config.as_mapping().items()}
    assert TrainConfig.from_mapping(as_lists, "config.json") == config


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "local (cascade)"),
        ({"credit": "top"}, "local (top)"),
        ({"hops": 2}, "local (hops 2)"),
        ({"rule": "bptt"}, "bptt"),
    ],
)
def test_pictures_name_the_rule_that_learned(options, words):
    assert TrainConfig.from_mapping(options).rule_in_words == words


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hiden = [8]", r"unknown setting 'hiden'; did you mean 'hidden'\?"),
        ("[train]\nlr = 1", r"unknown setting 'train'"),
        ("hidden = 8", r"hidden: expected a list of values, got 8"),
        ("hidden = []", r"hidden: expected one or more sizes of at least 1, got $"),
        ("hidden = [8, 0]", r"hidden: expected one or more sizes of at least 1, got 8 0"),
        ("hidden = [8, 'x']", r"hidden: expected a whole number, got 'x'"),
        ("betas = [0.9]", r"betas: expected a list of 2 values, got \[0.9\]"),
        ("betas = [0.9, 1]", r"betas: expected two numbers of at least 0 and below 1, got 0.9 1.0"),
        ("dropout = 1", r"dropout: expected at least 0 and below 1, got 1.0"),
        (
            "skip = 'residual'\nhidden = [8, 4]",
            r"hidden: expected layers of one size with skip residual.*got 8 4; make",
        ),
        ("top_down = true\nhidden = [8]", r"top_down: expected two layers or more to expect one another, got 1"),
        ("gate-coordination = 1", r"gate_coordination: expected only with two or more .*got 3 of cell gated; leave it"),
        (
            "gate-coordination = 1\ncell = 'lstm'\nhidden = [4]",
            r"gate_coordination: .*got 1 of cell lstm; leave it out",
        ),
        ("rule = 'locl'", r"rule: expected one of local, bptt, got 'locl'; did you mean 'local'\?"),
        ("cell = 'lstn'", r"cell: expected one of gated, .*, gru, got 'lstn'; did you mean 'lstm'\?"),
        ("cell = 3", r"cell: expected text, got 3"),
        ("credit = 'tpo'", r"credit: expected layer or top .*, got 'tpo'; did you mean 'top'\?"),
        ("hops = 1\ncredit = 'layer'", r"hops: expected to stand in place of a credit, got hops 1 with credit layer"),
        ("rule = 'bptt'\ncredit = 'cascade'", r"credit: expected only with rule local, got rule bptt; leave it out"),
        ("seed = -1", r"seed: expected at least 0, got -1"),
        ("lr = inf", r"lr: expected a number above 0, got inf"),
        ("chunk = 1.5", r"chunk: expected a whole number, got 1.5"),
        ("chunk = true", r"chunk: expected a whole number, got True"),
        ("chunk = 0", r"chunk: expected at least 1, got 0"),
        ("hops = -1", r"hops: expected at least 0, got -1"),
        ("lr = nan", r"lr: expected a number above 0, got nan"),
        ("clip = nan", r"clip: expected at least 0, got nan"),
        ("tensorboard = 'yes'", r"tensorboard: expected true or false, got 'yes'"),
        ("data = 3", r"data: expected text, got 3"),
        ("auxiliary = 0.5", r"auxiliary: expected only with rule bptt, got rule local; leave it out"),
        ("rule = 'bptt'\ncredit = 'top'", r"credit: expected only with rule local, got rule bptt"),
        ("lr = = 1", r"expected a TOML file: .*line 1"),
    ],
)
def test_a_wrong_line_of_toml_names_file_setting_and_fix(tmp_path, line, message):
    path = toml(tmp_path, line)
    with pytest.raises(UsageError, match=message) as caught:
        read_toml(path)
    assert str(caught.value).startswith(str(path))


def test_a_toml_file_that_is_missing_or_not_text_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere.toml: expected a TOML file, but it cannot be read"):
        read_toml(tmp_path / "nowhere.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"binary.toml: expected a TOML file"):
        read_toml(tmp_path / "binary.toml")


def test_without_the_package_tensorboard_no_folder_is_begun(tmp_path, text, monkeypatch):
    monkeypatch.setattr("pcrnn.runs.metrics.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="tensorboard: expected the package tensorboard; pip install tensorboard"):
        train(TrainConfig(data=str(text), hidden=(4,), tensorboard=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resuming_may_change_the_schedule_but_not_the_architecture():
    saved = TrainConfig(hidden=(8,), chunk=16)
    check_resumable(saved, TrainConfig(hidden=(8,), chunk=16, steps=9000, lr=1e-4, log_every=1, device="cpu"))
    with pytest.raises(CheckpointError) as caught:
        check_resumable(saved, TrainConfig(hidden=(8, 4), chunk=8, data="other.txt"))
    for difference in (
        "hidden: the run has 8, asked for 8 4",
        "chunk: the run has 16, asked for 8",
        "other.txt",
    ):
        assert difference in str(caught.value)
