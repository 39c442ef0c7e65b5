"""The control plane in a world of dice: virtual time, an API that misbehaves, proxies that die.

``virtual_time`` runs coroutines without waiting; ``api`` keeps objects and answers like a bad
network; ``mesh`` puts controllers and proxies on top and says whether they have converged.
"""
