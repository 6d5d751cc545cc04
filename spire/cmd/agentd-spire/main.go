// SPDX-License-Identifier: Apache-2.0

// agentd-spire is three plugins of SPIRE in one program: docs/spire.md. SPIRE starts it, once for each.
package main

import (
	"fmt"
	"os"

	"github.com/spiffe/spire-plugin-sdk/pluginmain"
	agentv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/nodeattestor/v1"
	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	serverv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/nodeattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"

	"github.com/cvm-agentd/agentd/internal/version"
	"github.com/cvm-agentd/agentd/spire/internal/nodeagent"
	"github.com/cvm-agentd/agentd/spire/internal/nodeserver"
	"github.com/cvm-agentd/agentd/spire/internal/workload"
)

const usage = `Usage: agentd-spire node-agent | node-server | workload

Plugins of SPIRE, which starts them: the two sides of the node attestor "agentd", by
evidence of the machine, and the workload attestor "agentd", by what agentd knows of a
process. plugin_args in the configuration of SPIRE names which.

Flags:
  --help     print this text
  --version  print the version

Example, in the configuration of spire-agent:
  NodeAttestor "agentd" {
      plugin_cmd = "/usr/libexec/agentd/agentd-spire"
      plugin_args = ["node-agent"]
      plugin_data {}
  }
`

func main() {
	role := ""
	if len(os.Args) == 2 {
		role = os.Args[1]
	}
	switch role { // Serve returns when SPIRE ends the plugin
	case "node-agent":
		p := new(nodeagent.Plugin)
		pluginmain.Serve(agentv1.NodeAttestorPluginServer(p), configv1.ConfigServiceServer(p))
	case "node-server":
		p := new(nodeserver.Plugin)
		pluginmain.Serve(serverv1.NodeAttestorPluginServer(p), configv1.ConfigServiceServer(p))
	case "workload":
		p := new(workload.Plugin)
		pluginmain.Serve(workloadattestorv1.WorkloadAttestorPluginServer(p), configv1.ConfigServiceServer(p))
	case "--help", "-h":
		fmt.Print(usage)
	case "--version":
		fmt.Println("agentd-spire " + version.Version)
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(1)
	}
}
