// SPDX-License-Identifier: Apache-2.0

// Demoapp is the application of the demonstration: a small service that makes a TLS
// key when it starts, writes the public half to a file, and answers over TLS. It
// knows nothing of attestation; its measured digest and its key are what others ask
// evidence for.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"os"
	"time"
)

// greeting is what the service says. The demonstration builds a second program with
// another one.
var greeting = "hello from the genuine application"

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: demoapp PUBLIC-KEY-FILE")
	}
	log.Fatal(serve(os.Args[1]))
}

// serve writes the public key to keyFile and answers callers, until an error ends it.
func serve(keyFile string) error {
	certificate, public, err := selfSigned()
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})
	if err != nil {
		return err
	}
	fmt.Println("listening on", l.Addr())
	// The key is written last and in one step: a client that sees it can connect.
	if err := os.WriteFile(keyFile+".new", public, 0o644); err != nil {
		return err
	}
	if err := os.Rename(keyFile+".new", keyFile); err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintln(c, greeting)
		c.Close()
	}
}

// selfSigned makes a key with a self-signed certificate: the evidence names it.
func selfSigned() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(0, 0, 1), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, public, nil
}
