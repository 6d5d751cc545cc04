// SPDX-License-Identifier: Apache-2.0

package plugins

import "github.com/spiffe/spire-plugin-sdk/pluginsdk"

func serviceServers(s ...pluginsdk.ServiceServer) []pluginsdk.ServiceServer { return s }

func serviceClients(c ...pluginsdk.ServiceClient) []pluginsdk.ServiceClient { return c }
