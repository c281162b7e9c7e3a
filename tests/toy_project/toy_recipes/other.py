"""Two functions; one notebook uses one, another the other. Tests edit this file."""


def double(value):
    return 2 * value


def header(count):
    return f"{count} walks and sums"
