"""The data card: what a dataset covers, what is wrong with it, and where more of it would help."""
