"""The mutants that are kept: most drawn by `mutants.py --draw`, some chosen for what an earlier mistake was.

The first ones are run by default. A survivor stands below with the reason why no test should notice it.
"""

from tests.reliability.mutants import Mutant

_LINES = [
    (
        "pcrnn/data/lanes.py",
        "if transitions >= chunk:",
        "if transitions > chunk:",
    ),
    (
        "pcrnn/runs/checkpoint.py",
        'if sound and body["format"] > FORMAT:',
        'if sound and body["format"] >= FORMAT:',
    ),
    (
        "pcrnn/data/formats/npy_file.py",
        "if expected != size:",
        "if expected == size:",
    ),
    (
        "learning_rules/local.py",
        "surprises.append(level_update(stack, len(surprises), level, chunk, weight.unsqueeze(-1), learn))",
        "surprises.append(level_update(stack, len(surprises) - 1, level, chunk, weight.unsqueeze(-1), learn))",
    ),
    (
        "pcrnn/ops/reference.py",
        "grad_state = signal * torch.nn.functional.silu(output_gate)",
        "grad_state = signal / torch.nn.functional.silu(output_gate)",
    ),
    (
        "pcrnn/training/finite_check.py",
        "self.skipped += self.tripped",
        "self.skipped -= self.tripped",
    ),
    # so far by default
    (
        "pcrnn/runs/checkpoint.py",
        '_STEP_FOLDER = re.compile(r"step_(\\d{1,18})(\\.old-\\d+)?")',
        '_STEP_FOLDER = re.compile(r"step_(\\d{1,18})")',
    ),
    (
        "pcrnn/runs/checkpoint.py",
        "if not sound:",
        "if sound:",
    ),
    (
        "pcrnn/runs/checkpoint.py",
        "sound, manifest = False, {}",
        "sound, manifest = True, {}",
    ),
    (
        "pcrnn/runs/checkpoint.py",
        'if len(content) != entry["bytes"]:',
        'if len(content) == entry["bytes"]:',
    ),
    (
        "pcrnn/runs/checkpoint.py",
        'if hashlib.sha256(content).hexdigest() != entry["sha256"]:',
        "if not content:",
    ),
    (
        "pcrnn/training/finite_check.py",
        "self.reading.copy_(torch.where(self.tripped > 0, self.reading, reading))",
        "self.reading.copy_(torch.where(self.tripped > 1, self.reading, reading))",
    ),
    (
        "pcrnn/data/series_reader.py",
        "if not (finite and mean.ndim == 1 and mean.shape == scale.shape and (scale > 0).all()):",
        "if not (finite and mean.ndim == 2 and mean.shape == scale.shape and (scale > 0).all()):",
    ),
    (
        "pcrnn/data/series_options.py",
        'sorts = written.get("sort") == "yes"',
        'sorts = written.get("sort") != "yes"',
    ),
    (
        "pcrnn/data/row_order.py",
        "longer = np.flatnonzero(self.steps > 1.5 * self.usual) + 1",
        "longer = np.flatnonzero(self.steps > 1.5 * self.usual)",
    ),
    (
        "pcrnn/data/suspects.py",
        "if len(steps) < 2 or not (steps > 0).all():",
        "if len(steps) < 2 or not (steps < 0).all():",
    ),
    (
        "pcrnn/data/formats/numbers.py",
        'digits = re.sub(self._group, "", whole) if self.thousands else whole',
        'digits = re.sub(self._group, "0", whole) if self.thousands else whole',
    ),
    (
        "pcrnn/data/series_columns.py",
        "if self.run is not None and channels != self.run.channels:",
        "if self.run is not None and channels == self.run.channels:",
    ),
    (
        "pcrnn/data/formats/npy_file.py",
        "if 0 in shape:",
        "if 0 not in shape:",
    ),
    (
        "pcrnn/data/formats/npy_file.py",
        'if dtype.kind not in "fiub":',
        'if dtype.kind not in "fiubO":',
    ),
    (
        "pcrnn/data/formats/npy_file.py",
        "if len(shape) not in axes:",
        "if len(shape) in axes:",
    ),
    (
        "pcrnn/data/lanes.py",
        "self.skipped_by_parts = transitions - batch * self.lane_length",
        "self.skipped_by_parts = transitions - batch / self.lane_length",
    ),
    (
        "pcrnn/data/lanes.py",
        "return self._window(position * self.chunk, self.chunk), position == 0",
        "return self._window(position * self.chunk, self.chunk), position != 0",
    ),
    (
        "pcrnn/data/text.py",
        'if tokens != "characters" or not distinct:',
        'if tokens == "characters" or not distinct:',
    ),
    (
        "pcrnn/data/text.py",
        "table = np.full(beyond + 1, -1, np.int32)",
        "table = np.full(beyond + 1, 1, np.int32)",
    ),
    (
        "pcrnn/data/text.py",
        "self.vocabulary = tuple(sorted(set(content)) if vocabulary is None else vocabulary)",
        "self.vocabulary = tuple(sorted(set(content)) if vocabulary is not None else vocabulary)",
    ),
    (
        "pcrnn/data/formats/csv_file.py",
        "return values if whole and np.isfinite(values).all() else None",
        "return values if whole or np.isfinite(values).all() else None",
    ),
    (
        "pcrnn/data/formats/csv_layout.py",
        "words = [bool(cell) and not number for cell, number in zip(cells, numbers, strict=True)]",
        "words = [bool(cell) and number for cell, number in zip(cells, numbers, strict=True)]",
    ),
    (
        "pcrnn/data/formats/files.py",
        "if size > (most := machine_memory()):",
        "if size < (most := machine_memory()):",
    ),
    (
        "pcrnn/data/formats/files.py",
        'line = text.count("\\n", 0, index) + 1',
        'line = text.count("\\n", 0, index) - 1',
    ),
    (
        "learning_rules/credit.py",
        "found.setdefault(min(n - 1, above), []).append((level, n))",
        "found.setdefault(min(n + 1, above), []).append((level, n))",
    ),
    (
        "learning_rules/local.py",
        "n: backward.signal(own, feedback[n][direction] if n in feedback else None)",
        "n: backward.signal(own, feedback[n + 1][direction] if n + 1 in feedback else None)",
    ),
    (
        "learning_rules/local.py",
        'learns_through_time = self.trace != "none"',
        'learns_through_time = self.trace == "none"',
    ),
    (
        "learning_rules/credit.py",
        "_learn_base_rate(stack.sensory.eta, sensory_error / weight.numel())",
        "_learn_base_rate(stack.sensory.eta, sensory_error * weight.numel())",
    ),
    (
        "pcrnn/data/formats/files.py",
        'line = text.count("\\n", 0, index) + 1',
        'line = text.count("\\n", 1, index) + 1',
    ),
    (
        "pcrnn/data/lanes.py",
        "transitions = max(length - 1, 0)",
        "transitions = max(length - 1, 1)",
    ),
    (
        "learning_rules/credit.py",
        "gradient = -weighted_error.sum((0, 1)).to(eta.dtype)",
        "gradient = weighted_error.sum((0, 1)).to(eta.dtype)",
    ),
    (
        "learning_rules/credit.py",
        "output[:, :-1].sub_(_product(state_residual[:, 1:], self.layer.predictor))",
        "output[:, :-1].add_(_product(state_residual[:, 1:], self.layer.predictor))",
    ),
    (
        "learning_rules/credit.py",
        "message[:, :-steps].add_(late[:, steps:])",
        "message[:, :-steps].sub_(late[:, steps:])",
    ),
    (
        "learning_rules/credit.py",
        "feedback_part[:, :-1].sub_(observation.mean_jvp(mean, sent))",
        "feedback_part[:, :-1].add_(observation.mean_jvp(mean, sent))",
    ),
    (
        "learning_rules/credit.py",
        "if gradient.shape[1] == 1:  # eta_{t-1} is of the chunk before",
        "if gradient.shape[1] >= 1:",
    ),
    (
        "learning_rules/credit.py",
        "sent = saved.unit * gradient[:, 1:] * (unbounded if known is None else unbounded & known)",
        "sent = saved.unit * gradient[:, 1:] * unbounded",
    ),
    (
        "learning_rules/credit.py",
        "sent = saved.unit * gradient[:, 1:] * (unbounded if known is None else unbounded & known)",
        "sent = saved.unit * gradient[:, 1:] * (1 if known is None else known)",
    ),
    (
        "learning_rules/credit.py",
        "if output.shape[1] > 1 and not inferred:  # else what Q reads is of the chunk before, or held constant",
        "if output.shape[1] > 1 and inferred:",
    ),
    (
        "learning_rules/bptt.py",
        "surprise, output = scores.surprise.detach(), activity.output.detach()",
        "surprise, output = scores.surprise.detach(), activity.layers[-2].output.detach()",
    ),
    (
        "learning_rules/bptt.py",
        "loss = loss + 0.5 * (seen.output.detach() - predicted).square().mean()",
        "loss = loss - 0.5 * (seen.output.detach() - predicted).square().mean()",
    ),
    (
        "pcrnn/nn/layer.py",
        "return Message(None if residual is None else (unit * residual).clamp(-limit, limit), self.state_error)",
        "return Message(None if residual is None else (unit / residual).clamp(-limit, limit), self.state_error)",
    ),
    (
        "pcrnn/nn/stack.py",
        "message = Message(self.sensory.message(observed[:, :steps], error), None, covariates)",
        "message = Message(self.sensory.message(observed[:, :steps], -error), None, covariates)",
    ),
    (
        "pcrnn/nn/running_variance.py",
        "least = (weight.clamp_max(PRIOR / 2) - count).clamp_min(0)",
        "least = weight.clamp_max(PRIOR / 2)",
    ),
    (
        "pcrnn/nn/running_variance.py",
        "ages = torch.arange(steps - 1, -1, -1, device=error.device)",
        "ages = torch.arange(steps, device=error.device)",
    ),
    (
        "pcrnn/nn/running_variance.py",
        "largest = self.outlier**2 * self.believed if self.held is None else self.held.largest",
        "largest = self.outlier * self.believed if self.held is None else self.held.largest",
    ),
    (
        "pcrnn/nn/running_variance.py",
        "squares = [part.outlier**2 for part in self.parts]",
        "squares = [part.outlier for part in self.parts]",
    ),
    (
        "pcrnn/nn/running_variance.py",
        "super().__init__(1, None if half_life is None else STEADINESS * half_life)",
        "super().__init__(1, half_life)",
    ),
    (
        "pcrnn/nn/observations/categorical.py",
        "return weighted - mean * weighted.sum(-1, keepdim=True)",
        "return weighted",
    ),
    (
        "pcrnn/nn/observations/poisson.py",
        "counts = rate.floor().unsqueeze(-1) + torch.arange(-reach, reach + 1, device=eta.device)",
        "counts = rate.floor().unsqueeze(-1) + torch.arange(-reach, 1, device=eta.device)",
    ),
    (
        "pcrnn/nn/observations/bernoulli.py",
        "error = _without(left - mean * (1 - mean) * (left @ coupling), missing)",
        "error = left",
    ),
    (
        "pcrnn/nn/observations/real.py",
        "downweighted = (self.variance * (self.degrees + 1)).sqrt() * (q / root)",
        "downweighted = (self.variance * (self.degrees - 1)).sqrt() * (q / root)",
    ),
    (
        "pcrnn/nn/observations/real.py",
        "return (residual if missing is None else residual.masked_fill(missing, 0)).to(error.dtype)",
        "return error",
    ),
    (
        "pcrnn/nn/sensory.py",
        "self.error_norm = ErrorNorm(normalize_errors, half_life, observation.message_limit)",
        "self.error_norm = ErrorNorm(normalize_errors, half_life)",
    ),
    (
        "learning_rules/credit.py",
        "for level in filter(None, block.levels):  # level 0 has no layer",
        "for level in block.levels:",
    ),
    (
        "pcrnn/data/calendar.py",
        "return cycles(self.at(first + 1, steps), self.features)",
        "return cycles(self.at(first, steps), self.features)",
    ),
    (
        "pcrnn/data/calendar.py",
        "return (times - year) / ((year + 1).astype(times.dtype) - year)",
        "return (times - year) / ((year + 2).astype(times.dtype) - year)",
    ),
    (
        "pcrnn/data/series.py",
        "self._values = self._steps[:, : self.channels]",
        "self._values = self._steps",
    ),
    (
        "pcrnn/ops/reference.py",
        "carried = torch.addcmul(signals[t], decays[t + 1], carried, out=credits[t])",
        "carried = torch.addcmul(signals[t], decays[t], carried, out=credits[t])",
    ),
    (
        "pcrnn/ops/reference.py",
        "return torch.hardshrink(products, FORGOTTEN)",
        "return products",
    ),
    (
        "pcrnn/ops/reference.py",
        "return torch.hardshrink(credit, FORGOTTEN)",
        "return credit",
    ),
    (
        "pcrnn/ops/reference.py",
        "left, arriving = suffix[:, 0] * left, credited(immediate, suffix)",
        "left, arriving = suffix[:, 0] / left, credited(immediate, suffix)",
    ),
    (
        "pcrnn/ops/reference.py",
        "if decay.shape[1] > 1:  # else nothing decays between the step and the chunk's end",
        "if decay.shape[1] > 2:",
    ),
    (
        "pcrnn/ops/reference.py",
        "if signal.shape[1] < 2:",
        "if signal.shape[1] < 3:",
    ),
    (
        "pcrnn/ops/reference.py",
        "drive = torch.addcmul(candidate, decay, candidate, value=-1)",
        "drive = torch.addcmul(candidate, decay, candidate, value=-2)",
    ),
    (
        "pcrnn/ops/reference.py",
        "return error.to(eta.dtype), torch.addcmul(constant, error, difference, value=0.5).sum(-1)",
        "return error.to(eta.dtype), torch.addcdiv(constant, error, difference, value=0.5).sum(-1)",
    ),
    (
        "learning_rules/layerwise.py",
        "grad = -weight * error",
        "grad = weight * error",
    ),
    (
        "pcrnn/ops/layer_update.py",
        "reference.add_product_(gradients.predictor, inputs.grad_residual, predictor_input, sign=-1)",
        "reference.add_product_(gradients.predictor, inputs.grad_residual, predictor_input, sign=1)",
    ),
    (
        "learning_rules/credit.py",
        "grad_residual = activity.saved.state_residual / activity.output.numel()",
        "grad_residual = activity.saved.state_residual * activity.output.numel()",
    ),
    (
        "learning_rules/local.py",
        "draw = torch.rand(layer.readout.shape, generator=generator) * 2 - 1",
        "draw = torch.rand(layer.readout.shape, generator=generator) * 2 + 1",
    ),
    (
        "pcrnn/data/formats/times.py",
        "return float((minutes * 60 + time.second) * 1_000_000 + time.microsecond)",
        "return float((minutes * 60 - time.second) * 1_000_000 + time.microsecond)",
    ),
    (
        "learning_rules/options.py",
        "if self.hops is not None and self.credit is not None:",
        "if self.hops is not None or self.credit is not None:",
    ),
    (
        "pcrnn/data/formats/times.py",
        "minutes = ((time.toordinal() - _FIRST_DAY) * 24 + time.hour) * 60 + time.minute",
        "minutes = ((time.toordinal() - _FIRST_DAY) * 24 - time.hour) * 60 + time.minute",
    ),
]

KEPT = [Mutant(*parts) for parts in _LINES]

SURVIVORS = {
    Mutant(
        "pcrnn/data/formats/table.py",
        'return repr(cell if len(cell) <= 40 else cell[:37] + "...")',
        'return repr(cell if len(cell) < 40 else cell[:37] + "...")',
    ): "whether a cell of exactly 40 characters is shown whole or cut in a message is nobody's promise",
    Mutant(
        "pcrnn/ops/layer_update.py",
        "if gradients.mixing is not None and inputs.grad_mixing is not None:",
        "if gradients.mixing is not None or inputs.grad_mixing is not None:",
    ): "the same: a layer has both or neither, the line asks for both so that types are known",
}
