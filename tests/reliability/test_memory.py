"""Rows 17 and 18: the local rule's memory does not grow with the sequence, and no run leaks."""

import gc
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from comparisons.cost.memory import MemorySetup, measure
from comparisons.record import peak_mib
from pcrnn.data import open_source
from pcrnn.training.train import Trainer
from tests.reliability.tiny import config

SMALL = MemorySetup(hidden=(64, 64), batch=4, chunk=128)


@pytest.fixture
def grown(child, tmp_path):
    """By how many MiB the peak of a fresh process grows while it learns `steps` steps in sequences of a length."""

    def measured(rule: str, length: int, steps: int) -> float:
        answer = tmp_path / "grown"
        process = child(_measure, rule, length, replace(SMALL, least=steps), answer)
        process.join()
        assert process.exitcode == 0, (tmp_path / "child.log").read_text()
        return float(answer.read_text())

    return measured


def _measure(rule: str, length: int, setup: MemorySetup, answer: Path) -> None:
    measure(rule, 128, replace(setup, least=1024))  # the first updates make buffers
    answer.write_text(str(measure(rule, length, setup)[0]))


@pytest.mark.row(17)
def test_memory_of_the_local_rule_does_not_grow_with_the_sequence(counts, grown, injected):
    """BPTT over the whole sequence, which keeps every step, is the contrast: this measurement sees growth."""
    shortest, longest = counts.lengths[0], counts.lengths[-1]
    local = {length: grown("local", length, longest) for length in counts.lengths}
    within = [length for length in counts.lengths if length <= 8192]  # of BPTT, that would need more than 1 GiB
    bptt = {length: grown("bptt", length, length) for length in within}
    slope = (local[longest] - local[shortest]) / (longest - shortest)
    steeper = (bptt[within[-1]] - bptt[shortest]) / (within[-1] - shortest)
    print(f"\nMiB a step: local {slope:.6f}, BPTT {steeper:.6f}; MiB: local {local}, BPTT {bptt}")
    assert steeper > 0.003  # 4 x 64 x 2 numbers and more a step
    assert slope < 0.03 * steeper and local[longest] - local[shortest] < 4
    injected(len(local))


@pytest.mark.row(17)
def test_a_text_takes_few_bytes_a_character_while_it_is_learned_from(child, tmp_path, injected):
    """Peaks of fresh processes; a character that became a 64-bit symbol would take eight bytes and more."""
    small, large = 2_000_000, 22_000_000
    peaks = []
    for size in (small, large):
        (tmp_path / "book.txt").write_text("the cat sat on the mat.\n" * (size // 24))
        process = child(_read, tmp_path / "book.txt", tmp_path / "answer")
        process.join()
        assert process.exitcode == 0, (tmp_path / "child.log").read_text()
        peaks.append(float((tmp_path / "answer").read_text()))
    a_character = (peaks[1] - peaks[0]) * (1 << 20) / (large - small)
    print(f"\nbytes a character: {a_character:.2f}")
    assert a_character < 6
    injected(len(peaks))


def _read(text: Path, answer: Path) -> None:
    trainer = Trainer(config(text, "neighbour"), open_source(str(text)))
    trainer.identity()
    trainer.update()
    answer.write_text(str(peak_mib()))


@pytest.mark.row(18)
@pytest.mark.parametrize("rule", ["neighbour", "random-feedback", "bptt"])
def test_a_run_does_not_leak(short_text, tmp_path, child, counts, rule):
    """Resident memory after warm-up and at the end, in a process that does nothing else."""
    answer = tmp_path / "answer"
    process = child(_learn, rule, short_text, counts.updates, answer)
    process.join()
    assert process.exitcode == 0, (tmp_path / "child.log").read_text()
    before, after, tensors_before, tensors_after = map(int, answer.read_text().split())
    assert after < 1.01 * before
    assert tensors_after == tensors_before


def _learn(rule: str, text: Path, updates: int, answer: Path) -> None:
    trainer = Trainer(config(text, rule), open_source(str(text)))
    readings = []
    for step in range(updates):
        trainer.update()
        if step % 10 == 9:
            trainer.row(), trainer.evaluate()
        if step in (updates // 3, updates - 1):
            readings.append((_tensors(), _resident()))  # counting touches pages, so it comes first
    (few, before), (many, after) = readings
    answer.write_text(f"{before} {after} {few} {many}")


def _resident() -> int:
    """Pages of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1])


def _tensors() -> int:
    gc.collect()
    return sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects())
