"""Codes as bytes: packed payloads and codes files. This package uses neither models nor sockets."""
