"""Networks made by hand, and all networks by name."""
