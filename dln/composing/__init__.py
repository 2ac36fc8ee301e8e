"""From YAML files, overrides and grids to resolved configs; the only place that knows Hydra's grammar."""
