"""Suites that measure what learning costs: time, memory, multiply-adds."""
