"""The cost of a network: parameters, multiply-adds, bytes, memory, latency."""

from prunelab.costs.network_cost import Cost, cost

__all__ = ["Cost", "cost"]
