// Package provision gets a board its certificate, and renews it, so that the private key
// never leaves the board: fleet provisioning by claim (AWS IoT Core Developer Guide, "Device
// provisioning MQTT API"), with a certificate signing request.
//
// The steps are always these, for the first certificate as for each later one:
//
//  1. A new key is written to disk.
//  2. Its request goes to $aws/certificates/create-from-csr/json. The answer, with the
//     certificate and its ownership token, is written to disk.
//  3. Token and parameters go to $aws/provisioning-templates/TEMPLATE/provision/json. The
//     answer, with the thing's name, is written to disk.
//  4. The link connects with the new pair. The first one needs its CONNACK, a later one also
//     a PUBACK. If it is refused, the link goes back to the old pair at once.
//  5. The pair in use is kept as the previous one, and the new one is put in its place.
//
// A [Provisioner] can be killed between any two of them, and continues from what is on disk.
// A lost answer costs nothing but another request: an earlier certificate that was never
// registered is deleted by AWS after an hour. A lost answer to step 3 is the one that cannot
// be asked for again, as the token serves once; then step 4 finds out whether the thing was
// registered.
//
// # Files
//
// All are in one directory, with mode 0600:
//
//   - current.pem: the key and the certificate (chain) in use, in one file, so that they
//     are replaced together
//   - previous.pem: those before
//   - next.json: the pair that is being made, and how far that is
//
// # Connections
//
// Steps 2 and 3 have a short connection of their own, with another client id. A renewal uses
// the present certificate; the claim certificate is used while there is none, after it has
// expired, and every second time if the broker refuses the present one. A certificate that
// was revoked is not replaced by itself: whoever revoked it wants this board to be out.
package provision
