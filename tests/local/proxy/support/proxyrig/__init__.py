"""What the tests of the proxy's process share: certificates, configurations, process, peers.

In: nothing but a scratch directory and the binary. Out: objects that a test starts and that end
with it. Nothing here uses fixed ports or waits a fixed time; what is awaited is a state, with a
deadline.
"""
