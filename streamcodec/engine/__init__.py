"""Running a model: engines, what one stream asks of them, who is due, and the thread that owns it all."""
