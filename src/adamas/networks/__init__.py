"""Blocks and the networks made of them: no reinforcement learning, no diffusion."""
