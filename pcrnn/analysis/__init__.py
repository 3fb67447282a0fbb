"""What a trained stack is worth and what it does: evaluation, surprise, samples, forecasts, anomalies, probes."""
