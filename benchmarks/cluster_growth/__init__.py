"""How a cluster grows: what a message and a write cost is measured, what many streams and listeners make of them is a model.

bus_costs    processor time of a node and of NATS for each message and each write, on this machine
model        nodes, messages, bytes, subscriptions and writes, from streams and listeners; no clock, no machine
render       tables and a picture
"""
