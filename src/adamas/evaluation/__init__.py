"""What the agent and its world model are worth: full games, dreams beside reality."""
