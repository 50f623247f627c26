"""Bad input of every kind that the commands read, as data: cases/*.yaml, and what no text file can hold in builders.py.

`python -m tests.bad` prints every case with the message that it gets.
"""
