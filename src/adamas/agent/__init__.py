"""The agent: a policy with a value, and the returns that it learns from."""
