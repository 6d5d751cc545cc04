// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
)

// Chromium is a running browser with one tab, driven by the DevTools protocol over two pipes.
type Chromium struct {
	cmd     *exec.Cmd
	to      *os.File
	session string

	mutex   sync.Mutex // guards the fields below
	next    int
	answers map[int]chan message
	events  []message
	arrived chan struct{} // closed and replaced at each event
	ended   error
}

// message is a message of the protocol.
type message struct {
	ID     int             `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
	Session string `json:"sessionId,omitempty"`
}

// Start starts the browser with an empty profile in dir, and opens a tab.
func Start(ctx context.Context, program, dir string) (*Chromium, error) {
	in, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	from, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c := &Chromium{to: to, answers: map[int]chan message{}, arrived: make(chan struct{})}
	c.cmd = exec.CommandContext(ctx, program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--user-data-dir="+dir, "--remote-debugging-pipe", "about:blank")
	c.cmd.ExtraFiles = []*os.File{in, out} // descriptors 3 and 4
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	in.Close()
	out.Close()
	go c.read(from)
	return c, c.openTab(ctx)
}

// Close ends the browser.
func (c *Chromium) Close() error {
	c.to.Close() // the end of the pipe ends it
	c.cmd.Process.Kill()
	return c.cmd.Wait()
}

func (c *Chromium) openTab(ctx context.Context) error {
	var target struct {
		ID string `json:"targetId"`
	}
	if err := c.Call(ctx, "Target.createTarget", map[string]any{"url": "about:blank"}, &target); err != nil {
		return err
	}
	var session struct {
		ID string `json:"sessionId"`
	}
	if err := c.Call(ctx, "Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &session); err != nil {
		return err
	}
	c.session = session.ID
	var errs []error
	for _, domain := range []string{"Page", "Log", "Runtime", "Network"} {
		errs = append(errs, c.Call(ctx, domain+".enable", nil, nil))
	}
	return errors.Join(errs...)
}

// read takes what the browser sends, until it ends.
func (c *Chromium) read(from *os.File) {
	defer from.Close()
	r := bufio.NewReader(from)
	for {
		b, err := r.ReadBytes(0)
		var m message
		if err == nil {
			err = json.Unmarshal(b[:len(b)-1], &m)
		}
		c.mutex.Lock()
		switch {
		case err != nil:
			c.ended = fmt.Errorf("the browser ended: %w", err)
			for _, answer := range c.answers {
				close(answer)
			}
			c.answers = nil
		case m.ID != 0:
			c.answers[m.ID] <- m // has room for one
			delete(c.answers, m.ID)
		default:
			c.events = append(c.events, m)
			close(c.arrived)
			c.arrived = make(chan struct{})
		}
		c.mutex.Unlock()
		if err != nil {
			return
		}
	}
}

// Call calls a method and decodes its result into result, if that is not nil.
func (c *Chromium) Call(ctx context.Context, method string, params, result any) error {
	if params == nil {
		params = struct{}{}
	}
	raw, err := json.Marshal(params)
	if err != nil {
		return err
	}
	answer := make(chan message, 1)
	c.mutex.Lock()
	if c.ended != nil {
		c.mutex.Unlock()
		return c.ended
	}
	c.next++
	m := message{ID: c.next, Method: method, Params: raw, Session: c.session}
	c.answers[m.ID] = answer
	c.mutex.Unlock()
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err := c.to.Write(append(b, 0)); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	case m, ok := <-answer:
		switch {
		case !ok:
			return fmt.Errorf("%s: the browser ended", method)
		case m.Error != nil:
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		case result == nil:
			return nil
		}
		return json.Unmarshal(m.Result, result)
	}
}

// Evaluate evaluates an expression of JavaScript in the page, waits if it is a promise, and decodes
// its value.
func (c *Chromium) Evaluate(ctx context.Context, expression string, value any) error {
	var out struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception json.RawMessage `json:"exceptionDetails"`
	}
	if err := c.Call(ctx, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &out); err != nil {
		return err
	}
	if out.Exception != nil {
		return fmt.Errorf("the expression failed: %.400s", out.Exception)
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(out.Result.Value, value)
}

// Events returns the events since the last call that have one of these names.
func (c *Chromium) Events(names ...string) (out []message) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.events = slices.DeleteFunc(c.events, func(m message) bool {
		if !slices.Contains(names, m.Method) {
			return false
		}
		out = append(out, m)
		return true
	})
	return out
}

// Open opens an address and waits until it is loaded.
func (c *Chromium) Open(ctx context.Context, url string) error {
	c.Events("Page.loadEventFired")
	if err := c.Call(ctx, "Page.navigate", map[string]any{"url": url}, nil); err != nil {
		return err
	}
	for {
		c.mutex.Lock()
		arrived, ended := c.arrived, c.ended
		c.mutex.Unlock()
		if ended != nil {
			return ended
		}
		if len(c.Events("Page.loadEventFired")) > 0 {
			return nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return fmt.Errorf("open %s: %w", url, ctx.Err())
		}
	}
}
