# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Surprise of every layer, on your own text
#
# A stack watches a text, character by character. Every layer corrects what the layers below expect of the next one, so
# for every character there is a surprise per layer, in nats: where does a text surprise the lower layers and not the
# upper ones? Put a file of your own in place of `pydoc`, the language reference that comes with Python. Everything here
# runs on a CPU in less than a minute.

# %%
from pathlib import Path
from tempfile import mkdtemp

import torch
from PIL import Image

from pcrnn import plots
from pcrnn.analysis.surprise import record_surprise
from pcrnn.config import TrainConfig
from pcrnn.training.train import train

TEXT = "pydoc"  # or "book.txt"
folder = Path(mkdtemp())

# %% [markdown]
# ## Learn
#
# With `credit="layer"` every layer learns from its own error alone, so that every level is a predictor in its own right
# and the difference between two of them is what the upper one explains.

# %%
config = TrainConfig(
    data=TEXT,
    rule_options={"credit": "layer"},
    hidden=(64, 64),
    batch=16,
    chunk=64,
    steps=200,
    lr=1e-2,
    evaluate_every=0,
)
run = train(config, folder / "run")
stack, source = run.stack, run.source
bits, baselines = [nats / source.nats_per_unit for nats in run.valid], source.baselines()
for name, figure in {**{f"level {level}": x for level, x in enumerate(bits)}, **baselines}.items():
    print(f"{figure:6.3f} {source.unit}  {name}")

# %% [markdown]
# Level 0 is the base rate, the top level is what the stack is worth. The other figures need no learning.
#
# ## Look
#
# A passage that the stack has never seen: on top the surprise of the top level, below it that of every level, and how
# much each layer is surprised at its own next state.

# %%
info = plots.RunInfo(unit=source.unit, nats_per_unit=source.nats_per_unit, about=config.rule_in_words)


def picture(files):
    """The first of the files that a plot has written."""
    with Image.open(files[0]) as image:
        return image.copy()


def characters(steps):
    """A text's steps, one character each."""
    return [source.decode(step) for step in steps.split(1)]


def passage(steps, surprise, state_surprise):
    """A text and both surprises of every layer."""
    surprises = surprise.numpy(), state_surprise.numpy()
    return picture(plots.surprise_over_time(folder / "passage", *surprises, symbols=characters(steps), info=info))


START = source.split_point + 3000  # beyond what was learned
seen = record_surprise(stack, source, START, length=192)
passage(seen.steps, seen.surprise, seen.state_surprise)

# %% [markdown]
# Words begin with a surprise and end without one. What does each layer explain?

# %%
picture(plots.nats_explained(folder / "explained", run.valid, info=info))

# %% [markdown]
# ## What surprised it most
#
# The ten most surprising characters of a longer passage, each between « » after what came before it.

# %%
long = record_surprise(stack, source, source.split_point, length=4000)
text = characters(long.steps)
for at in sorted(long.surprise[-1].topk(10).indices.tolist()):
    print(f"{long.surprise[-1, at]:5.1f} nats  {''.join(text[max(0, at - 30) : at])!r} «{text[at]!r}»")

# %% [markdown]
# ## Something is wrong here
#
# The same passage, its middle third with the letters in another order. The counts of the letters are the same, so the
# base rate cannot tell; the layers can.

# %%
LENGTH, CONTEXT = 96, 256
third = LENGTH // 3
clean = source.sequence("all")[START - CONTEXT : START + LENGTH]
damaged = clean.clone()
middle = slice(CONTEXT + third, CONTEXT + 2 * third)
damaged[middle] = clean[middle][torch.randperm(third, generator=torch.Generator().manual_seed(0))]

with torch.no_grad():
    activity, _ = stack.eval().observe(torch.stack([clean, damaged]))
of_clean, of_damaged = activity.surprise[:, :, middle].mean(-1).T.tolist()
for level, (usual, unusual) in enumerate(zip(of_clean, of_damaged, strict=True)):
    print(f"level {level}: {usual:.2f} nats as it stands, {unusual:.2f} with the middle in disorder")

# %%
passage(damaged[CONTEXT:], activity.surprise[:, 1, CONTEXT:], activity.state_surprise[:, 1, CONTEXT:])

# %% [markdown]
# `pcrnn detect RUN --data FILE` does this for a whole file, with a threshold from the validation split, and
# `pcrnn plot RUN` draws these pictures of any run.
