"""A folder of audio to a folder of codes: how long it takes with us and with others, all cores at work.

Every one reads the same files, encodes them with the same architecture and writes codes to a folder.
"""
