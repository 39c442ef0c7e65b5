"""The node agent: a small kubelet, service proxy and cluster DNS for the one node of the box.

``agent`` watches Pods and gives each a ``pod_worker``; that one asks ``network`` for a namespace,
``volumes`` and ``environment`` for what the containers see, and ``containers`` to run them.
``service_rules`` and ``service_proxy`` make ClusterIPs work, ``dns`` and ``dns_server`` names, and
``server`` is where the API server asks for logs, port-forwards, captures and exec.
"""
