"""Measurements, each side by side with its baseline in one run, told as ratios."""
