"""Readers of the real world (Feature Keys, host identity) and simulated devices of equal rank; knows no policy."""
