"""What a server does when something under it fails: what health, figures and clients say, and how long until audio goes on.

Two processes: a server that is made to fail by its pipe, and this one, with a publisher and a listener that connect again as a client of
the package does. One failure is run at a time.
"""
