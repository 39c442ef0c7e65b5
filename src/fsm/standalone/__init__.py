"""The mesh on one machine with no cluster.

An embedded Kubernetes-style API server (``apiserver``), the few Kubernetes controllers that the
mesh needs, and a node agent that runs Pods as processes in network namespaces. Everything above
``fsm.kube`` is the same code here and on a cluster: nothing in this package is imported by it.
"""
