"""The other side of each dialect: every file plays one provider, by that provider's documentation alone."""
