"""Atari 100k: its queue and workers, published scores, aggregates and figures."""
