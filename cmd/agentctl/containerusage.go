// SPDX-License-Identifier: Apache-2.0

package main

const containerUsage = `Usage: agentctl container COMMAND

Containers that the agent measures before their first program runs: which engines have
that done, and which containers were measured.

  enable ENGINE   have the containers of an engine measured
  disable ENGINE  undo that
  list            how the engines are set up, and measured containers that run

An application is declared by its image: docs/containers.md.

Examples:
  agentctl container list
`

const containerEnableUsage = `Usage: agentctl container enable ENGINE [--runtime runc|crun] [--dry-run] [--root DIR]

Have the containers of an engine measured before their first program runs. A container
that is not measured does not start then, also while the agent is away; the engine shows
why. ENGINE is one of:

  podman      a hook in /usr/share/containers/oci/hooks.d, which CRI-O reads too
  docker      a runtime in /etc/docker/daemon.json, which becomes the default
  containerd  shows what to add to /etc/containerd/config.toml, and writes nothing

What else is in these files stays. A file that can be read in two ways is refused.

  --runtime NAME  runc or crun, which starts containers of docker and containerd
                  (default runc)
  --dry-run       show what would be written, and write nothing
  --root DIR      work on the folder of a machine that is being built

Examples:
  agentctl container enable podman
  agentctl container enable docker --dry-run
`

const containerDisableUsage = `Usage: agentctl container disable ENGINE [--dry-run] [--root DIR]

Undo what "agentctl container enable" wrote. Containers then start unmeasured. They get
no keys, and evidence does not name them.

  --dry-run   show what would be written, and write nothing
  --root DIR  work on the folder of a machine that is being built

Examples:
  agentctl container disable docker
`

const containerListUsage = `Usage: agentctl container list [--root DIR] [--json]

Show how the engines are set up, and the measured containers that run.

  --root DIR  look at the folder of a machine that is being built; no agent is asked then

Examples:
  agentctl container list
`
