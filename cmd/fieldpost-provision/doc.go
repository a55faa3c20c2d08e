// Command fieldpost-provision registers a board in AWS IoT Core: steps 3 to 6 of the AWS IoT
// tutorial, done once and safe to repeat. It makes the thing, the policy that the board's
// configuration needs, a certificate for a private key that stays on this machine, and joins
// the three.
//
// It is a program of its own because the AWS SDK that it uses is several times as large as the
// daemon, and needs credentials that have no place on a board.
//
// # Safe to repeat
//
// provision.json, beside the private key, has what was made. Each change is recorded there
// before AWS is asked for it, without a certainty, and again when AWS has answered. So a run
// that was killed in between finds out what became of its request:
//
//   - The thing and the policy have names. If they are there now, are as wanted, and were not
//     there before the request, they are ours. Somebody else would have had to make the very
//     same in that moment.
//   - A certificate has no name before it exists, and the same request makes a second one each
//     time (AWS IoT API Reference, CreateCertificateFromCsr). So the certificates that are not
//     older than the request are searched for the one with our public key.
//
// For the same reason the SDK does not repeat a request that makes something, except one that
// was refused because there were too many.
//
// # Undo
//
// --undo takes back what provision.json names, in the reverse order, and nothing else. What
// others use meanwhile (a policy that is attached to another certificate) stays, and so does its
// entry.
package main
