"""The command line of medsr."""
