"""What every rule learns: held-out scores on the same data."""
