"""fsm: a service mesh; its control plane, its command line and its standalone world.

The layers, from the ones that know nothing to the ones that people touch, are listed in
``ARCHITECTURE.md``; each package imports only from the layers below it.
"""

__version__ = "0.1.0"
