"""What every rule costs: time, memory, operations, communication."""
