"""How every rule learns: gradients, memory over long lags, streams, predictions of the next state."""
