"""File formats: bytes to arrays, every fault named with its place in the file."""
