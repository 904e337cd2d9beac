"""What the subscriber sees: one page, as a file or from a small read-only service on the PostgreSQL copy."""
