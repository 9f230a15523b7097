"""Several servers and NATS on one machine: how late the hop between nodes makes a packet, and what clients notice when one of them goes.

The nodes and NATS are processes of their own, and so are all clients; NATS, a node, or the way between them can be taken away. One case is
run at a time.
"""
