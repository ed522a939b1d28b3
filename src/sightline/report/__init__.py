"""A measurement as one page that says what to mend first."""
