"""Kinds of numbers and lists on the command lines of the scripts."""

import argparse

from mounts import Unusable


def count(text):
    """A whole number, 1 or more."""
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")


def positive(text):
    """A number above 0."""
    try:
        if 0 < (number := float(text)) < float("inf"):
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")


def chosen(text, known, what):
    names = list(known) if text is None else text.split(",")
    for name in names:
        if name not in known:
            raise Unusable(f"there is no {what} '{name}'; there are {', '.join(known)}")
    return names
