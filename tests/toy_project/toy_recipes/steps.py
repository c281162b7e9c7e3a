"""One step of the walk. Tests edit this file."""


def next_value(value):
    return (value * 1103515245 + 12345) % 2**31
