"""One module writes every file: no other can follow a stranger's link, or leave half a file."""

from pathlib import Path

import pytest

from tests.structure.imports import PACKAGES
from tests.structure.writes import WRITER, writes

ROOT = Path(__file__).parents[2]


def test_nothing_is_written_but_by_the_module_that_writes():
    assert (found := writes(ROOT, *PACKAGES)) == [], "\n" + "\n".join(found)


def test_that_module_does_write(tmp_path):
    """Under another name it is seen: the search has not gone blind."""
    (tmp_path / "pcrnn").mkdir()
    (tmp_path / "pcrnn" / "other.py").write_text((ROOT / WRITER).read_text())
    assert len(writes(tmp_path, "pcrnn")) >= 6


PLANTED = [
    "open(path, 'w')",
    "open(path, mode='ab')",
    "open(path, 'r+')",
    "open(path, 'w' if new else 'a')",
    "open(path, f'{letter}b')",
    "open(path, how)",
    "io.open(path, 'x')",
    "path.open('w', encoding='utf-8')",
    "path.open(mode='wb')",
    "Path(name).open('a')",
    "gzip.open(path, 'wt')",
    "zipfile.ZipFile(path, 'w')",
    "path.write_text(text)",
    "path.write_bytes(data)",
    "(folder / name).touch()",
    "path.symlink_to(other)",
    "figure.savefig(path)",
    "np.save(path, array)",
    "numpy.savez_compressed(path, a=array)",
    "np.savetxt(path, array)",
    "array.tofile(path)",
    "torch.save(stack, path)",
    "safetensors.torch.save_file(tensors, path)",
    "table.to_parquet(path)",
    "pq.write_table(table, path)",
    "os.open(path, os.O_WRONLY | os.O_CREAT)",
    "os.open(path, flags)",
    "os.replace(old, new)",
    "shutil.copyfile(old, new)",
    "SummaryWriter(folder)",
    "tensorboard.SummaryWriter(folder)",
    "tempfile.NamedTemporaryFile()",
    "from torch import save",
    "from shutil import copyfile as read",
]
READING = [
    "open(path)",
    "open(path, 'rb')",
    "path.open('rb')",
    "path.open(encoding='utf-8', newline='')",
    "archive.open(member)",
    "reader.open(location, options, state)",
    "gzip.open(path, 'rt')",
    "os.open(path, os.O_RDONLY)",
    "os.open(os.devnull, os.O_WRONLY)",
    "name.replace('a', 'b')",
    "safetensors.torch.save(tensors)",
    "write_file(path, text)",
]


@pytest.mark.parametrize("line", PLANTED)
def test_a_write_elsewhere_is_reported_with_its_place(tmp_path, line):
    (tmp_path / "pcrnn" / "cli").mkdir(parents=True)
    (tmp_path / "pcrnn" / "cli" / "new.py").write_text(f"def f():\n    {line}\n")
    (found,) = writes(tmp_path, "pcrnn")
    assert found.startswith("pcrnn/cli/new.py:2: ")


@pytest.mark.parametrize("line", READING)
def test_what_reads_is_not_reported(tmp_path, line):
    (tmp_path / "pcrnn").mkdir()
    (tmp_path / "pcrnn" / "new.py").write_text(line + "\n")
    assert writes(tmp_path, "pcrnn") == []
