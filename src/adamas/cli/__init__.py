"""The commands: `adamas train`, `play`, `evaluate`, `export`, `benchmark`, `report` and `showcase`."""
