"""Several server processes behind one port of one machine: how they are started, kept running, asked as one, and ended."""
