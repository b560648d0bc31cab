"""The process node: registers as a Kubernetes Node and runs pods as local processes, without containers.

Honoured as kubelet does: command, args, env, envFrom, Secret, ConfigMap, downward-API, projected and emptyDir
volumes, probes, termination messages, grace periods, activeDeadlineSeconds, exit codes, deletion, eviction and a
restart of the node. Every pod has a loopback address of its own.

Not there, for want of namespaces and cgroups: resource limits (requests count for scheduling), securityContext
(everything runs as the node's user), read-only mounts, a root file system, service-account tokens, later changes
of a mounted Secret. A main process without a SIGTERM handler ends on SIGTERM (as process 1 of a container it
would ignore it). Pods that need what isn't there at all (init containers, restarts, lifecycle hooks, other
volumes) are refused: phase Failed, reason ``NotSupported``, and an event naming it.

Paths: a mount is a folder of the node's own, so every env value or argument of the pod's spec that begins with a
mountPath, or is the terminationMessagePath, is rewritten to it; programs must take such paths from there.
"""
