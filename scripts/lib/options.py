"""Kinds of numbers on the command lines of the scripts."""

import argparse


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
