"""When decoded audio is played: jitter estimate, buffer, clock drift."""
