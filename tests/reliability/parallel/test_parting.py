"""A rank that has parted from the others leaves no thread behind that could meet the end of the interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
from pathlib import Path
import torch
from pcrnn.training.parallel.ranks import connected

def gloo():
    return sum("gloo" in path.read_text() for path in Path("/proc/self/task").glob("*/comm"))

with connected("cpu"):
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    torch.optim.AdamW([weight]).step()
    inside = gloo()
print(inside > 0, gloo())
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_gloos_threads_end_with_the_group(tmp_path):
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    ended = subprocess.run(
        [sys.executable, "-c", CODE], env=os.environ | alone | {"MASTER_PORT": "0"}, capture_output=True, text=True
    )
    assert ended.stdout.split() == ["True", "0"], ended.stderr
