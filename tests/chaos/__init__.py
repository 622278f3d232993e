"""Real nodes, each alone in a network namespace, with faults that the kernel makes: `make chaos`.

`machine` says what is needed of the machine and makes a private place; `namespaces`, `disks`, `shim` and `nodes` are
what faults are made of; `load` and `clients` are the people who use the network meanwhile; `aftermath` says whether
anything was lost; `scenarios` is the list, and `trials` runs one of it. Timing is measured here, and asserted only
where it is a limit that the network promises to keep: a bounded time to recover.
"""
