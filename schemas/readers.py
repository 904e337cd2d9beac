"""Who reads what of the copy in PostgreSQL: a role a kind of reader."""

PORTAL = "footprint_portal"

READERS = {
    "footprint_billing": ("published", "publications", "corrections"),
    PORTAL: ("published", "method_texts"),
    "footprint_auditor": (
        *("published", "publications", "published_totals", "method_texts", "revisions", "corrections"),
        *("verdicts", "evidence", "evidence_received", "evidence_days", "evidence_factors"),
        *("received_balance", "completeness", "factor_use", "restatements", "published_history", "publication_history"),
    ),
}
"""What each role may read. None may write, but the portal may add its answers, which the tables' owner alone reads."""
