"""Emission factors as dated, cited data, and the rules they must keep."""
