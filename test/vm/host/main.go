// SPDX-License-Identifier: Apache-2.0

// Host builds a virtual machine, boots it with a software TPM, installs the package in it,
// and checks the agent from outside. Every check has a name. Host prints and keeps a summary
// of all checks.
//
//	host -cache DIR -base FILE -packages DIR -agentctl FILE -guest FILE -work DIR
//	     -summary FILE -console FILE -begin SECONDS -limit DURATION [-run REGEXP]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// options contains the paths.
type options struct {
	cache    string // images
	base     string // of the image
	packages string // old.deb and new.deb
	agentctl string // the verifier, on this machine
	guest    string // test/vm/guest
	image    string // test/vm/image
	work     string // disk and TPM of this run
	summary  string
	console  string // for the machine's console if a check fails
	begin    time.Time
	only     *regexp.Regexp
}

func main() {
	var o options
	flag.StringVar(&o.cache, "cache", "", "")
	flag.StringVar(&o.base, "base", "", "")
	flag.StringVar(&o.packages, "packages", "", "")
	flag.StringVar(&o.agentctl, "agentctl", "", "")
	flag.StringVar(&o.guest, "guest", "", "")
	flag.StringVar(&o.image, "image", "test/vm/image", "")
	flag.StringVar(&o.work, "work", "", "")
	flag.StringVar(&o.summary, "summary", "", "")
	flag.StringVar(&o.console, "console", "", "")
	begin := flag.Int64("begin", time.Now().Unix(), "")
	limit := flag.Duration("limit", 50*time.Minute, "")
	only := flag.String("run", "", "")
	flag.Parse()
	o.only = regexp.MustCompile(*only)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The limit includes the time before this program started.
	o.begin = time.Unix(*begin, 0)
	ctx, cancel := context.WithDeadlineCause(ctx, o.begin.Add(*limit), fmt.Errorf("the limit of %v is over", *limit))
	defer cancel()
	if err := run(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "test-vm: FAILED:", err)
		os.Exit(1)
	}
	fmt.Println("test-vm: ok")
}

func run(ctx context.Context, o *options) error {
	image, err := buildImage(ctx, o)
	if err != nil {
		return err
	}
	m, err := newMachine(o, image)
	if err != nil {
		return err
	}
	defer m.off()
	s := &session{machine: m, options: o, image: image}
	return s.all(ctx)
}
