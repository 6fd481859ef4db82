"""Modules that several networks are built of."""
