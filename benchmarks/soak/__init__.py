"""A server on its default configuration at 70% of what it has room for, for an hour, with publishers and listeners that come and go.

Two processes: the server, whose memory, descriptors and threads are watched from outside, and all its clients.
"""
