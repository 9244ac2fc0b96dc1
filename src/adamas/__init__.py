"""adamas: a reinforcement-learning agent trained inside a diffusion world model of an Atari game."""
