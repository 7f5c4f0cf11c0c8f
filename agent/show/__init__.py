"""What people and Prometheus see: board, page, status in a terminal, logs. Reads, decides nothing."""
