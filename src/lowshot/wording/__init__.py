"""Wording: a record in words. Its quantities, origin and settings read the same in cards, tables and pages."""
