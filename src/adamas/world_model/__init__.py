"""The world model: a pure step from state and action to the next frame, reward and end."""
