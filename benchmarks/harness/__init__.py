"""What all benchmarks share: one way to declare, run, render and draw one. Figures reach the text only by way of the stored JSON."""
