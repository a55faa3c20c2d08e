package main

import _ "embed"

// roots are Amazon Root CA 1 (RSA 2048) and Amazon Root CA 3 (EC P-256), with which the ATS
// endpoints of AWS IoT Core prove who they are: AWS IoT Core developer guide, "Server
// authentication". They are built in, so that no root comes over a network that they are to
// secure. Their fingerprints are those that Amazon Trust Services publishes
// (https://www.amazontrust.com/repository/).
//
//go:embed roots.pem
var roots []byte
