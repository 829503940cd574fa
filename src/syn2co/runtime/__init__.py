"""The machine and the run on it: devices, ranks, determinism, signals, checkpoints, the optimizer."""
