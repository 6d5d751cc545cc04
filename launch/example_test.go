// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/internal/launchtest"
	"github.com/cvm-agentd/agentd/launch"
)

// A build measures the guests that it publishes, for policies. For open files,
// io.NewSectionReader makes a Source.
func ExampleMeasure() {
	firmware := launchtest.OVMF().Bytes() // the content of OVMF.fd

	cpu, err := launch.ParseCPU("EPYC-Genoa")
	if err != nil {
		fmt.Println(err)
		return
	}
	config := launch.Config{
		VMM:      launch.QEMU,
		Firmware: bytes.NewReader(firmware),
		Kernel:   strings.NewReader("kernel"), Initrd: strings.NewReader("initrd"), CommandLine: "root=/dev/vda ro",
		CPU: cpu,
	}
	all, err := launch.Measure(&config, 2, 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range all {
		fmt.Printf("[[launch]] # %d processors\nmeasurement = \"%x\"\nkind = %q\ncovers = %q\n", m.VCPUs, m.Digest, config.Kind(), config.Covers())
	}
	// Output:
	// [[launch]] # 2 processors
	// measurement = "f234eb7640c73a246e793f9be659bce96eac18db39239fbdd422eb84fdfbcf3fae70b8f13c619a4407f5355dcbb50195"
	// kind = "plain"
	// covers = "firmware+kernel+cmdline"
	// [[launch]] # 4 processors
	// measurement = "e9fc18ce2e879bc4e8d2b74a38dd45513edbbd9cff0f43375ef01d6e2df12cbccbbb40019c9d0173a6cfca77d74c6547"
	// kind = "plain"
	// covers = "firmware+kernel+cmdline"
}

// The owner of a guest signs what a host may launch. Reports then name the key.
func ExampleSignIDBlock() {
	id, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}
	all, err := launch.Measure(guest(launchtest.OVMF()), 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	block := launch.IDBlock{Measurement: all[0].Digest, GuestSVN: 3, Policy: 0x30000}
	auth, err := launch.SignIDBlock(nil, &block, id, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	digest, err := launch.KeyDigest(id.Public())
	fmt.Println(len(block.Bytes()), len(auth.Bytes()), auth.IDKeyDigest() == digest, err)
	// Output:
	// 96 4096 true <nil>
}
