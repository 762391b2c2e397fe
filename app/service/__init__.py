"""Verbs: what can be done with invoices, and in which order money is kept safe."""
