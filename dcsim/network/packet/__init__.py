"""Packet networks: adapters, switches, buffers and routing, simulated packet by packet."""
