"""Every table and every input, declared once: types, units, meaning and row rules."""
