"""What the network learns: heads with their targets and losses."""
