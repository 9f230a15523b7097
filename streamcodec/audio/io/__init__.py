"""Audio files and sound devices."""
