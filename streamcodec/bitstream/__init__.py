"""Codes as bytes: packed payloads and files. It knows no model and no socket."""
