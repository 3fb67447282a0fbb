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
# A stack processes a text character by character. Every layer corrects the expectation that the layers below have of
# the next character, so every character has a surprise (negative log probability) per layer, in nats. Where does a text
# surprise the lower layers but not the upper ones? Replace `pydoc`, the language reference that ships with Python, by a
# file of your own. Everything here runs on a CPU in less than a minute.

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
# ## Training
#
# With `credit="layer"` every layer learns from its own error alone, so that every level is a predictor in its own right
# and the difference between two levels is what the upper one explains.

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
for name, score in {**{f"level {level}": x for level, x in enumerate(bits)}, **baselines}.items():
    print(f"{score:6.3f} {source.unit}  {name}")

# %% [markdown]
# Level 0 is the base rate, the top level is the prediction of the whole stack. The other scores are baselines.
#
# ## Surprise over a held-out passage
#
# At the top the surprise of the top level, below it that of every level, and the surprise of each layer at its own next
# state.

# %%
info = plots.RunInfo(unit=source.unit, nats_per_unit=source.nats_per_unit, about=config.rule_in_words)


def picture(files):
    """The PNG that a plot function has written."""
    with Image.open(files[0]) as image:
        return image.copy()


def characters(steps):
    """The characters of a text, one per step."""
    return [source.decode(step) for step in steps.split(1)]


def passage(steps, surprise, state_surprise):
    """Plot a text with both surprises of every layer."""
    surprises = surprise.numpy(), state_surprise.numpy()
    return picture(plots.surprise_over_time(folder / "passage", *surprises, symbols=characters(steps), info=info))


START = source.split_point + 3000  # in the validation split
held_out = record_surprise(stack, source, START, length=192)
passage(held_out.steps, held_out.surprise, held_out.state_surprise)

# %% [markdown]
# Surprise is high at the beginning of words and low at their end. How much does each layer explain?

# %%
picture(plots.nats_explained(folder / "explained", run.valid, info=info))

# %% [markdown]
# ## The most surprising characters
#
# The ten most surprising characters of a longer passage, each between « » after its context.

# %%
long = record_surprise(stack, source, source.split_point, length=4000)
text = characters(long.steps)
for at in sorted(long.surprise[-1].topk(10).indices.tolist()):
    print(f"{long.surprise[-1, at]:5.1f} nats  {''.join(text[max(0, at - 30) : at])!r} «{text[at]!r}»")

# %% [markdown]
# ## Detecting damaged text
#
# The same passage with the characters of its middle third shuffled. The character counts are unchanged, so the base
# rate cannot detect the damage, but the layers can.

# %%
LENGTH, CONTEXT = 96, 256
third = LENGTH // 3
clean = source.sequence("all")[START - CONTEXT : START + LENGTH]
damaged = clean.clone()
middle = slice(CONTEXT + third, CONTEXT + 2 * third)
damaged[middle] = clean[middle][torch.randperm(third, generator=torch.Generator().manual_seed(0))]

with torch.no_grad():
    activity, _ = stack.eval().observe(torch.stack([clean, damaged]))
clean_surprise, damaged_surprise = activity.surprise[:, :, middle].mean(-1).T.tolist()
for level, (original, shuffled) in enumerate(zip(clean_surprise, damaged_surprise, strict=True)):
    print(f"level {level}: {original:.2f} nats for the original text, {shuffled:.2f} with the middle shuffled")

# %%
passage(damaged[CONTEXT:], activity.surprise[:, 1, CONTEXT:], activity.state_surprise[:, 1, CONTEXT:])

# %% [markdown]
# `pcrnn detect RUN --data FILE` does this for a whole file, with a threshold from the validation split, and
# `pcrnn plot all RUN` draws these plots for any run.
