// Command fieldpost-provision registers a board in AWS IoT Core: steps 3 to 6 of the AWS IoT
// tutorial, done once and safe to repeat. It makes the thing, the policy that the board's
// configuration needs, a certificate for a private key that stays on this machine, and joins
// the three.
//
// It is a separate program because the AWS SDK that it uses is several times as large as
// the daemon, and needs credentials that do not belong on a board.
//
// # Safe to repeat
//
// provision.json, in the directory of the private key, records what was made. Each change
// is recorded there as uncertain before the request to AWS, and again after the answer.
// So a run after a kill finds out what became of the last request:
//
//   - The thing and the policy have names. If they exist now as wanted, and did not exist
//     before the request, they are ours. Otherwise somebody else would have made exactly the
//     same at that moment.
//   - A certificate has no name before it exists, and the same request makes a second one each
//     time (AWS IoT API Reference, CreateCertificateFromCsr). So the certificates that are not
//     older than the request are searched for the one with our public key.
//
// For the same reason the SDK does not repeat a request that makes something, except one that
// was refused because there were too many.
//
// # Undo
//
// --undo removes what provision.json lists, in the reverse order, and nothing else. What
// others use by now (a policy that is attached to another certificate) stays, and so does
// its entry.
package main
