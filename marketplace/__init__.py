"""Apps, releases, deployments, price lists and charging."""
