"""Nouns of the payment field: money, invoices, errors."""
