"""The model: predictive layers, stacks of them, what they expect and how they are connected. Never a learning rule."""
