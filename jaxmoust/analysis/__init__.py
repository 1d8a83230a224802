"""Statistics on what was trained and generated: numpy and scipy in, numbers with intervals out."""
