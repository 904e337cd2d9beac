"""A deterministic demo month of usage records, written into the landing folder with its truth beside it.

The same arguments give the same octets of every file: no clock, and every random number comes from (seed, month, purpose, day,
chunk). Subscriptions are made in chunks of constant size, so memory does not grow with their number. The truth holds for one demo
month per landing folder: a second month would repeat the intervals that straddle the month end they share.
"""

from jobs.demo.write import DemoSummary, generate

__all__ = ["DemoSummary", "generate"]
