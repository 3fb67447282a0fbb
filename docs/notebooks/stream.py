# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A stream, watched live
#
# `pcrnn.Online` takes one observation at a time: it says how surprising the observation was, then learns from it.
# Memory and time per step stay the same however long the stream is. Here a machine with two sensors runs for some days;
# then a bearing begins to wear. Everything runs on a CPU in a few seconds (with the extra `online`; without it in a
# minute).

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from pcrnn import Online, OnlineConfig

generator = np.random.default_rng(0)
STEPS, WEAR, SPIKE = 4000, 3000, 2000


def sensors():
    """Load and vibration, one pair a minute; the vibration follows the load, after two minutes."""
    load = np.zeros(3)
    for t in range(STEPS):
        load = np.append(load[1:], 50 + 20 * np.sin(t / 60) + 5 * np.sin(t / 7) + generator.normal())
        vibration = 0.02 * load[0] + 0.05 * generator.normal()
        if t >= WEAR:
            vibration += 0.3 * np.sin(2.1 * t)  # the bearing
        yield np.array([load[-1] + (60 if t == SPIKE else 0), vibration])


# %% [markdown]
# ## Score, then learn
#
# A plain loop. `learn_one` returns a score; what it says of `x` was known before `x` was learned from.

# %%
torch.manual_seed(0)
online = Online(channels=2, hidden=(32, 32), config=OnlineConfig(lr=3e-3, probation=500, margin=0.1))
seen, scores = [], []
for t, x in enumerate(sensors()):
    score = online.learn_one(x)
    seen.append(x)
    scores.append(score)
    if score.alarm:
        print(f"minute {t}: {score.surprise:.1f} nats, likelihood {score.likelihood:.9f}")
print(online.engine)

# %% [markdown]
# ## Surprise of every level
#
# Level 0 is a running base rate, the others are the layers. The spike surprises once. The worn bearing surprises until
# the stack has learned how it shakes, which shows in the fall of the surprise after minute 3000.

# %%
levels = np.array([score.levels for score in scores])
running = np.apply_along_axis(lambda level: np.convolve(level, np.ones(50) / 50, "same"), 0, levels)
figure, (above, below) = plt.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
above.plot(np.array(seen)[:, 1], linewidth=0.5)
above.set_ylabel("vibration")
for number, level in enumerate(running.T):
    below.plot(level, label=f"level {number}", linewidth=1)
below.set(xlabel="minute", ylabel="surprise, nats (mean of 50)", ylim=(0, 7))
below.legend()
plt.show()

# %% [markdown]
# ## What comes next
#
# Continuations are drawn from the stack, each step given the draws before it.

# %%
forecast = online.forecast(60)
figure, axis = plt.subplots(figsize=(9, 2.5), layout="constrained")
axis.plot(np.arange(STEPS - 120, STEPS), np.array(seen)[-120:, 0], label="load")
ahead = np.arange(STEPS, STEPS + 60)
axis.plot(ahead, forecast.expected[:, 0], label="expected")
axis.fill_between(ahead, forecast.low[:, 0], forecast.high[:, 0], alpha=0.3, label="90 %")
axis.legend()
plt.show()
