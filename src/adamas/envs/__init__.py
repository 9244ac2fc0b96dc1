"""Real environments, as Gymnasium envs."""
