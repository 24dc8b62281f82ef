"""Agents that train in the dream and act in reality."""
