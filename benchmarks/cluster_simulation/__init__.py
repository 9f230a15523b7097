"""A cluster of a thousand nodes in virtual time: who has which name, where clients go, and what the bus carries, by the real decisions.

Membership, placement, claims and leases are the server's own code. What stands around them is a model: stores and networks that answer
after a random delay, nodes that take hellos one after the other, and clients as numbers. All chance comes from one seed, so a run gives
the same figures everywhere; nothing in them is a speed of the machine that it runs on.
"""
