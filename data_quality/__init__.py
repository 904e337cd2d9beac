"""Whether a month is fit to publish."""
