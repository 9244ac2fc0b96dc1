"""adamas: a reinforcement-learning agent trained inside a diffusion world model of an Atari game.

Importing it registers the world model of a run as a Gymnasium env, `gymnasium.make("adamas:WorldModel-v0", run=PATH)`.
"""

import gymnasium

from adamas.utils.waiting import wait_briefly

wait_briefly()  # here, so that every program and test that uses adamas does, where torch is not imported before it
gymnasium.register(  # the entry points are names: torch is imported when an env is made
    "WorldModel-v0",
    entry_point="adamas.training.saved_env:SavedWorldEnv",
    vector_entry_point="adamas.training.saved_env:SavedWorldVectorEnv",
)
