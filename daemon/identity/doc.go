// Package identity makes, reads and examines what a device shows to its broker: a private key,
// the certificate for it, and the certificate signing request from which an authority makes
// that certificate. So the key never leaves the machine that it is made on.
//
// All files are PEM (RFC 7468); keys are written as PKCS #8 (RFC 5958), requests as PKCS #10
// (RFC 2986). AWS IoT Core takes requests for RSA keys of at least 2048 bits and for EC keys
// on P-256, P-384 and P-521 (AWS IoT API Reference, CreateCertificateFromCsr). It names a
// certificate by the SHA-256 of its DER form: see [ID].
//
// Nothing here replaces a file. The functions may be called from any goroutine; they wait for
// the disk.
package identity
