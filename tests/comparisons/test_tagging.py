"""The tagging suite at a tiny size: what is deleted, what counts, who competes with how many parameters."""

import json

import pytest
import torch
from pcrnn.comparisons.quality import tagging
from pcrnn.comparisons.quality.contenders import bidirectional_for, stack_for
from pcrnn.comparisons.quality.networks import size_of
from pcrnn.comparisons.quality.tagging import MARK, VOWELS, TaggingSetup, Vowels
from pcrnn.comparisons.suite import Request

from pcrnn.config import TrainConfig
from pcrnn.data import TextSource
from pcrnn.errors import DataError

TEXT = "a bad idea, one of EIGHT that are up. " * 40


def task(text=TEXT, **base):
    return Vowels(
        TextSource(text), TaggingSetup(base=TrainConfig(**{"hidden": (9, 9), "batch": 2, "chunk": 12} | base))
    )


def test_vowels_are_marked_and_are_the_targets_that_count():
    chunk = task().train
    seen = "".join(task().symbols[i] for i in chunk.observations.flatten())
    vowels = iter(VOWELS[i] for i in chunk.targets[chunk.mask])
    assert MARK in seen and "EIGHT" in seen
    assert not set(seen) & set(VOWELS)
    assert TEXT.startswith("".join(next(vowels) if symbol == MARK else symbol for symbol in seen))


def test_search_and_test_split_share_no_character():
    held_out = [tagging.marked(TEXT)[-152:][at : at + 76][:72] for at in (0, 76)]
    for split, text in zip(("valid", "test"), held_out, strict=True):
        parts = [piece.chunk.observations for piece in task().parts(split)]
        assert "".join(task().symbols[i] for i in torch.cat(parts).flatten()) == text


def test_both_neighbours_settle_what_one_does_not():
    """After x the vowel is a or e, as the character after it says; counting is all there is to do."""
    generator = torch.Generator().manual_seed(0)
    words = ["xan ", "xet "]
    text = "".join(words[i] for i in torch.randint(2, (3000,), generator=generator))
    baselines = task(text, chunk=4).baselines()
    assert baselines["both neighbours"] == 1
    assert 0.4 < baselines["the character before"] < 0.6


def test_stacks_of_both_kinds_have_as_many_parameters():
    config = TrainConfig(hidden=(60, 60))
    sizes = [size_of(build(task(), config)) for build in (stack_for, bidirectional_for)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.03)


def test_the_suite_writes_a_row_for_every_learner(tmp_path):
    paths = tagging.run(Request(quick=True, seeds=2, out=tmp_path))
    assert [path.name for path in paths] == [f"tagging.{ending}" for ending in ("json", "md", "png", "svg")]
    written = json.loads(paths[0].read_text())
    assert [row["learner"] for row in written["rows"]] == list(tagging.TAGGERS)
    assert all(len(row["accuracies"]) == 2 and 0 <= row["accuracy"] <= 1 for row in written["rows"])
    assert len(written["summary"]) == 2
    for said, (rule, pair) in zip(written["summary"], rows_by_rule(written["rows"]).items(), strict=True):
        assert said.startswith("No claim: " if any(row["at_edge"] for row in pair) else f"{rule} restores ")


def rows_by_rule(rows: list[dict]) -> dict[str, list[dict]]:
    return {rule: [row for row in rows if row["learner"].endswith(f", {rule}")] for rule in ("local", "bptt")}


def test_a_table_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n" + "1,2\n3,4\n" * 200)
    with pytest.raises(DataError, match="expected text data, got series data"):
        tagging.run(Request(quick=True, out=tmp_path, data=tmp_path / "x.csv"))


def test_a_text_shorter_than_a_window_is_refused():
    with pytest.raises(DataError, match="expected splits of at least 99 characters, got 76; give more text"):
        task(chunk=99)
