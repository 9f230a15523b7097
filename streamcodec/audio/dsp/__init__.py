"""Signal processing on blocks of samples: one algorithm per file, states kept by the object, no clock."""
