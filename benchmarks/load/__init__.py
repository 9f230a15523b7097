"""Many at once: publishers and listeners of every kind on loopback, in real time, and every packet checked afterwards.

The server is one process, all clients are another. Latency runs from the moment at which a packet's last sample is due from the microphone
until the listener's program has the packet, so it holds the server's work, both processes' waiting, and the load's own lateness.
With --fast everything is sent as quickly as the server takes it: the same checks on a machine of any speed, and no latency.
Ends with an error if anything was lost, or is not what encoding and decoding the whole clip gives.
"""
