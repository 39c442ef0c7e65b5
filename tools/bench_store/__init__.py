"""How fast the standalone world's API server stores, lists and watches many objects."""
