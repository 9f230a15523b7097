"""Signal processing on blocks of samples: one algorithm per file. Objects hold the state; no file reads a clock."""
