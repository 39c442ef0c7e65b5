"""Types the commands of a README as its reader would, and compares what comes with what it shows.

`readme` reads the commands and their outcomes, `typist` types them into a shell.
"""
