package need

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/regular"
)

// largest is the largest file that is read, in bytes.
const largest = 64 << 10

// Read reads policies that count together, each by the name of its file; the name
// "-" is stdin. The error is [awsiot.Errors], of all files, where a policy is at
// fault.
func Read(stdin io.Reader, paths ...string) (*awsiot.Policy, error) {
	var all []*awsiot.Policy
	var mistakes awsiot.Errors
	for _, path := range paths {
		text, err := readPolicy(stdin, path)
		if err != nil {
			return nil, fmt.Errorf("read policy %q: %w", path, err)
		}
		p, err := awsiot.ParseNamed(path, text)
		var errs awsiot.Errors
		if errors.As(err, &errs) {
			mistakes = append(mistakes, errs...)
			continue
		}
		all = append(all, p)
	}
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	return awsiot.Merge(all...), nil
}

func readPolicy(stdin io.Reader, path string) ([]byte, error) {
	if path == "-" && stdin != nil {
		return io.ReadAll(io.LimitReader(stdin, largest+1)) // one byte more is one too many for the parser
	}
	return regular.Read(path, largest)
}

// Certificate reads the fields of the certificate in a PEM file. nil: there is no
// such file, or no certificate in it.
func Certificate(path string) *awsiot.Certificate {
	text, err := regular.Read(path, largest)
	if err != nil {
		return nil
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			return awsiot.CertificateOf(c)
		}
	}
}
