"""When a month is due and how long it is kept: what readers are promised, and the defaults of the settings of the same names."""

PROVISIONAL_DAYS = 2
"""Days after a month's end on which its estimate is due."""
BILLING_DAYS = 7
"""Days after a month's end on which its publication to billing is due."""
RESTATEMENT_DAYS = 32
"""Days after a month's end until which it is restated."""
RECORDS_KEPT_DAYS = 35
"""Days that records stay after their month ended and was published."""
FIGURES_KEPT_MONTHS = 24
"""Months that figures stay."""
