// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxAuthorities caps the certificates of issuers that one chain is searched in:
// each may cost an RSA-4096 verification.
const maxAuthorities = 16

// authorityBits is the size of every RSA key of AMD's hierarchy.
const authorityBits = 4096

// Roots are the root keys (ARK) that a caller trusts, and the intermediates (ASK,
// ASVK) known beforehand. [AMDRoots] returns AMD's. The zero value trusts nothing.
type Roots struct {
	roots         []*root
	intermediates []*x509.Certificate
	digest        [sha256.Size]byte // of all that was added, in order
}

// Digest returns a digest that tells roots apart: it is the same if the same
// certificates were added in the same way and order.
func (r *Roots) Digest() [sha256.Size]byte { return r.digest }

type root struct {
	certificate *x509.Certificate
	product     Product
	test        bool
}

// AddTestRootThatVouchesForNoHardware trusts a root that anyone may have made: a
// software platform's. Evidence accepted through it proves nothing about any
// machine, and [Chain.Test] says so of every chain that ends there.
func (r *Roots) AddTestRootThatVouchesForNoHardware(ark *x509.Certificate) error {
	if err := checkIssued("root key certificate", ark, ark); err != nil {
		return err
	}
	return r.add(ark, nil, true)
}

func (r *Roots) add(ark *x509.Certificate, intermediates []*x509.Certificate, test bool) error {
	p, err := rootProduct(ark)
	if err != nil {
		return err
	}
	if err := checkAuthority("root key certificate", ark); err != nil {
		return err
	}
	r.roots = append(r.roots, &root{certificate: ark, product: p, test: test})
	r.intermediates = append(r.intermediates, intermediates...)
	// Fixed sizes in front, then lengths: no two ways of adding encode alike.
	b := append(r.digest[:], byte(len(intermediates)))
	if test {
		b[len(b)-1] |= 0x80 // a test root comes without intermediates
	}
	for _, c := range append([]*x509.Certificate{ark}, intermediates...) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(c.Raw)))
		b = append(b, c.Raw...)
	}
	r.digest = sha256.Sum256(b)
	return nil
}

// Certificates returns the roots, then the intermediates known beforehand.
func (r *Roots) Certificates() []*x509.Certificate {
	var out []*x509.Certificate
	for _, root := range r.roots {
		out = append(out, root.certificate)
	}
	return append(out, r.intermediates...)
}

// Contains reports whether der is one of Certificates, which need not be parsed again.
func (r *Roots) Contains(der []byte) bool {
	return slices.ContainsFunc(r.Certificates(), func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, der) })
}

// rootProduct parses the word ARK-Milan, ARK-Genoa or ARK-Turin in the subject.
func rootProduct(ark *x509.Certificate) (Product, error) {
	for _, word := range strings.Fields(ark.Subject.CommonName) {
		if line, ok := strings.CutPrefix(word, "ARK-"); ok {
			return ParseProduct(line)
		}
	}
	return ProductUnknown, refuse(CodeChainRoot, "subject of the root key certificate").found("common name %q", ark.Subject.CommonName).want("ARK-Milan, ARK-Genoa or ARK-Turin in it")
}

// Chain leads from an endorsement key to a root: every signature in it was
// checked, every issuer may issue. Times are [Chain.CheckValidity]'s.
type Chain struct {
	Leaf         *EndorsementKey
	Intermediate *x509.Certificate // ASK, or ASVK for a VLEK
	Root         *x509.Certificate // ARK
	Product      Product           // of root and intermediate
	Test         bool              // ends in a test root: vouches for no hardware
}

// VerifyChain finds the issuers of leaf among others, which need not be trusted, and the
// intermediates of roots, and checks the way to one of the roots.
// RSA-PSS with SHA-384 throughout (KDS, chapter "Certificate format").
func VerifyChain(leaf *EndorsementKey, others []*x509.Certificate, roots *Roots) (*Chain, error) {
	if roots == nil || len(roots.roots) == 0 {
		return nil, refuse(CodeChainRoot, "chain of the %v", leaf.Signer).found("no root to trust").want("at least one")
	}
	if len(others) > maxAuthorities {
		return nil, refuse(CodeChainAuthority, "certificates of issuers").found("%d", len(others)).want("at most %d", maxAuthorities)
	}
	candidates := slices.Concat(roots.intermediates, others)
	var failed error
	for i, c := range candidates {
		if !bytes.Equal(c.RawSubject, leaf.Certificate.RawIssuer) || slices.ContainsFunc(candidates[:i], c.Equal) {
			continue
		}
		chain, err := chainThrough(leaf, c, roots)
		if err == nil {
			return chain, nil
		}
		if failed == nil || CodeOf(err) != CodeChainSignature {
			failed = err // an issuer that fits and fails tells more than a namesake
		}
	}
	if failed == nil {
		failed = refuse(CodeChainIncomplete, "issuer of the %v", leaf.Signer).found("no certificate").want("one of %q", leaf.Certificate.Issuer.CommonName)
	}
	return nil, failed
}

func chainThrough(leaf *EndorsementKey, intermediate *x509.Certificate, roots *Roots) (*Chain, error) {
	what := leaf.Signer.String() + " certificate"
	// Before its key is used: one of another size can keep the processor busy for a minute.
	if err := checkAuthority("intermediate certificate", intermediate); err != nil {
		return nil, err
	}
	if err := checkIssued(what, leaf.Certificate, intermediate); err != nil {
		return nil, err
	}
	signer, product, err := intermediateRole(intermediate)
	if err != nil {
		return nil, err
	}
	// An ASVK must not make VCEKs: an attacker with a cloud's key could then invent chips.
	if signer != leaf.Signer {
		return nil, refuse(CodeChainAuthority, "issuer of the %s", what).found("one of %vs", signer).want("one of %vs", leaf.Signer)
	}
	for _, r := range roots.roots {
		if !bytes.Equal(r.certificate.RawSubject, intermediate.RawIssuer) {
			continue
		}
		if checkIssued("intermediate certificate", intermediate, r.certificate) != nil {
			continue // another root of that name: test roots may share one
		}
		if r.product != product {
			return nil, refuse(CodeChainAuthority, "intermediate certificate").found("for %v", product).want("%v, as its root is for", r.product)
		}
		return &Chain{Leaf: leaf, Intermediate: intermediate, Root: r.certificate, Product: product, Test: r.test}, nil
	}
	return nil, refuse(CodeChainRoot, "issuer of the intermediate certificate").found("%q", intermediate.Issuer.CommonName).want("a root that is trusted")
}

// intermediateRole reads the subject: SEV-Milan issues VCEKs, SEV-VLEK-Milan VLEKs.
func intermediateRole(c *x509.Certificate) (Signer, Product, error) {
	signer := SignerVCEK
	line, ok := strings.CutPrefix(c.Subject.CommonName, "SEV-VLEK-")
	if ok {
		signer = SignerVLEK
	} else if line, ok = strings.CutPrefix(c.Subject.CommonName, "SEV-"); !ok {
		return 0, 0, refuse(CodeChainAuthority, "subject of the intermediate certificate").found("common name %q", c.Subject.CommonName).want("SEV-PRODUCT or SEV-VLEK-PRODUCT")
	}
	p, err := ParseProduct(line)
	return signer, p, err
}

// checkAuthority checks that c may sign certificates.
func checkAuthority(what string, c *x509.Certificate) error {
	key, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() != authorityBits {
		return refuse(CodeChainAuthority, "key of the %s", what).found("%v", c.PublicKeyAlgorithm).want("RSA of %d bits", authorityBits)
	}
	if !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return refuse(CodeChainAuthority, "%s", what).found("CA %t, key usage 0x%x", c.IsCA, int(c.KeyUsage)).want("an authority that may sign certificates")
	}
	if len(c.UnhandledCriticalExtensions) != 0 {
		return refuse(CodeChainAuthority, "%s", what).found("critical extension %v", c.UnhandledCriticalExtensions[0]).want("none that is not understood")
	}
	return nil
}

// checkIssued checks the signature of c by issuer.
func checkIssued(what string, c, issuer *x509.Certificate) error {
	if c.SignatureAlgorithm != x509.SHA384WithRSAPSS {
		return refuse(CodeChainSignature, "signature of the %s", what).found("%v", c.SignatureAlgorithm).want("%v", x509.SHA384WithRSAPSS)
	}
	if err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return refuse(CodeChainSignature, "signature of the %s", what).found("not by %q", issuer.Subject.CommonName).because(err)
	}
	return nil
}

// CheckValidity reports the first certificate of the chain that is not valid at that time.
func (c *Chain) CheckValidity(at time.Time) error {
	for _, cert := range []*x509.Certificate{c.Leaf.Certificate, c.Intermediate, c.Root} {
		name := cert.Subject.CommonName
		if at.Before(cert.NotBefore) {
			return refuse(CodeNotYetValid, "certificate %q", name).found("%s", day(at)).want("from %s", day(cert.NotBefore))
		}
		if at.After(cert.NotAfter) {
			return refuse(CodeExpired, "certificate %q", name).found("%s", day(at)).want("up to %s", day(cert.NotAfter))
		}
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// published is AMD's certificates: for each line of processors one PEM file with the
// root (ARK), the issuer of VCEKs (ASK) and the issuer of VLEKs (ASVK), in that order.
// AMD's key distribution service gives the first two at
// https://kdsintf.amd.com/vcek/v1/PRODUCT/cert_chain and the third, with the same root,
// at https://kdsintf.amd.com/vlek/v1/PRODUCT/cert_chain (KDS, section "CA certificate
// chain"). A test compares the files with those that go-sev-guest embeds.
//
//go:embed roots/*.pem
var published embed.FS

// pins are the SHA-256 of the roots' certificates in DER, hexadecimal.
var pins = map[Product]string{
	Milan: "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
	Genoa: "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
	Turin: "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
}

// AMDRoots returns AMD's roots and intermediates for every line of [Products]. They are
// part of the program; nothing is fetched.
func AMDRoots() (*Roots, error) {
	r := new(Roots)
	for _, p := range Products() {
		text, err := published.ReadFile("roots/" + strings.ToLower(p.String()) + ".pem")
		if err != nil {
			return nil, fmt.Errorf("built-in certificates of %v: %w", p, err)
		}
		chain, err := ParseCertificates(text)
		if err != nil {
			return nil, fmt.Errorf("built-in certificates of %v: %w", p, err)
		}
		if err := r.addPinned(pins[p], chain); err != nil {
			return nil, fmt.Errorf("built-in certificates of %v: %w", p, err)
		}
	}
	return r, nil
}

// addPinned adds a root and the intermediates after it. The pin is compared instead of
// the root's signature by itself, which anyone can make.
func (r *Roots) addPinned(pin string, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return refuse(CodeChainRoot, "certificates of the root key").found("none").want("at least one")
	}
	if got := sha256.Sum256(chain[0].Raw); hex.EncodeToString(got[:]) != pin {
		return refuse(CodeChainRoot, "fingerprint of the root key certificate").found("%x", got).want("%s", pin)
	}
	return r.add(chain[0], chain[1:], false)
}
