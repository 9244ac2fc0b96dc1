"""The commands: `adamas train`, `play`, `evaluate`, `export`, `data`, `benchmark`, `report` and `showcase`."""
