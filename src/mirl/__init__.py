"""MIR-L: blind image restoration by winning lottery tickets, small and fast enough for the web."""
