"""What a network costs: parameters, multiply-adds, bytes, memory, latency."""
