"""One attacker at full speed beside ordinary streams: what those notice, what the server's memory does, and what the attacker gets.

Three processes: a server, ten live publishers of PCM with a listener each, and an attacker, which has another address of loopback. One
attack is run at a time.
"""
