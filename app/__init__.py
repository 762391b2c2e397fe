"""Gatehouse: one normalized REST API in front of many payment providers."""
