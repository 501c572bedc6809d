"""How fast agentctl is: ``python -m tests.bench`` measures it against bare Python, acpx and sandbox-agent in one run.

It judges nothing in CI: machines differ and are shared, so only what two programs take side by side says much.
"""
