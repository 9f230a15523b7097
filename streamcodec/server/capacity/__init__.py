"""How many streams the machine carries, and who is let in."""
